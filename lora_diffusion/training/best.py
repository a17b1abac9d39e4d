"""Which step of a run was the best on the validation pictures, and the adapter of that step.

Each adapter that is better than all before it lies in best/step-N.safetensors, for as long as a snapshot is kept from
which the run may go on with it as its best: so a resume, from whichever snapshot, ends with the same adapter.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_tools.storage import remove_file
from lora_diffusion.training.candidates import candidates

__all__ = ["Best", "prune"]


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


def prune(folder: Path, steps: Collection[int]) -> None:
    """Remove adapters that were the best at none of the steps at which a snapshot is kept."""
    found = dict(candidates(folder))
    needed = {max((each for each in found if each <= step), default=0) for step in steps}
    for step, path in found.items():
        if step not in needed:
            remove_file(path)
