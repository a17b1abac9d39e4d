"""What a run writes down as it goes: metrics.jsonl, and TensorBoard events where TensorBoard is installed."""

from pathlib import Path
from typing import Any

from lora_diffusion.training.run import Run

__all__ = ["Books"]


class Books:
    """The metrics of a run in work. Every step stands there once, also after a resume."""

    def __init__(self, run: Run, step: int) -> None:
        """Go on after `step`; what was written of later steps is dropped."""
        run.forget_after(step)
        self._run = run
        self._board = _tensorboard(run.folder, step) if run.plan.run.tensorboard else None

    def step(self, row: dict[str, Any]) -> None:
        """Write down a step: what it came to by name, with its number as `step`."""
        self._write(row, "train/")

    def validation(self, step: int, loss: float) -> None:
        """Write down a validation loss."""
        self._write({"step": step, "validation_loss": loss}, "")

    def close(self) -> None:
        if self._board:
            self._board.close()

    def _write(self, row: dict[str, Any], prefix: str) -> None:
        self._run.log(row)
        if self._board:
            for name, value in row.items():
                if name not in ("step", "seconds"):
                    self._board.add_scalar(f"{prefix}{name}", value, row["step"])


def _tensorboard(folder: Path, step: int) -> Any:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
