"""Which step of a run was the best on the validation pictures, and the adapter of that step.

Each adapter that is better than all before it lies in best/step-N.safetensors, for as long as a snapshot is kept from
which the run may go on with it as its best: so a resume, from whichever snapshot, ends with the same adapter.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_tools.storage import remove_file

__all__ = ["Best", "best_path", "forget_after", "prune"]


@dataclass(frozen=True, kw_only=True)
class Best:
    """The lowest validation loss so far and its step; `worse` counts the measurements since. None: not measured."""

    step: int = 0
    loss: float | None = None
    worse: int = 0

    def after(self, step: int, loss: float) -> "Best":
        """Return what holds after a measurement; a loss that is no number is never the best."""
        if math.isfinite(loss) and (self.loss is None or loss < self.loss):
            return Best(step=step, loss=loss)
        return replace(self, worse=self.worse + 1)


def best_path(folder: Path, step: int) -> Path:
    """Return where the adapter of a step that was the best lies."""
    return folder / f"step-{step:08d}.safetensors"


def forget_after(folder: Path, step: int) -> None:
    """Remove adapters of steps that a resume runs again."""
    for path in _adapters(folder):
        if _step(path) > step:
            remove_file(path)


def prune(folder: Path, steps: Collection[int]) -> None:
    """Remove adapters that were the best at none of the steps at which a snapshot is kept."""
    found = _adapters(folder)
    needed = {max((_step(path) for path in found if _step(path) <= step), default=0) for step in steps}
    for path in found:
        if _step(path) not in needed:
            remove_file(path)


def _adapters(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
