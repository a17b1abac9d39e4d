"""Adapters that a run keeps beside its result, one file for each step: those to choose from, and those of `best`."""

from collections.abc import Iterator
from pathlib import Path

from datasets_tools.storage import remove_file
from lora_diffusion.training.plan import RunPlan

__all__ = ["candidate_path", "candidates", "forget_after", "is_candidate", "kept_adapters"]


def is_candidate(plan: RunPlan, step: int) -> bool:
    """Say whether the adapter after a step is kept; that of the last one is the result."""
    parts = plan.candidates + 1
    return step < plan.steps and step in (round(part * plan.steps / parts) for part in range(1, parts))


def candidate_path(folder: Path, step: int) -> Path:
    """Return where the adapter of a step lies."""
    return folder / f"step-{step:08d}.safetensors"


def candidates(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield step and path of the adapters in a folder, in the order of the steps."""
    for path in sorted(folder.glob("step-*.safetensors")):
        yield int(path.stem.removeprefix("step-")), path


def kept_adapters(run: Path) -> dict[int, Path]:
    """Return the adapters that a run directory holds beside its result, by step, in order."""
    return dict(sorted(each for name in ("best", "candidates") for each in candidates(run / name)))


def forget_after(folder: Path, step: int) -> None:
    """Remove adapters of steps that a resume runs again."""
    for number, path in candidates(folder):
        if number > step:
            remove_file(path)
