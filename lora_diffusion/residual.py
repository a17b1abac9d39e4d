"""What rounding took from a merge, as an adapter: merged + residual is the exact sum again.

The remainder of rounding is not of low rank in general. Where the base is already in the precision of the result and
the delta is subtle, much of it is the delta itself, and a small rank brings most of the style back. Where the base is
rounded too (fp32 to bf16, anything to fp8), the remainder is noise of full rank: bringing all of it back takes
out + in numbers per rank and as many ranks as the smaller side. `rank` limits it, and the report says what is left.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.lowrank import Fit, best_fit, weights_from

__all__ = ["Residual"]

_EXACT = 1e-6
"""Share of a delta that may be missing from what counts as exact."""


@dataclass(kw_only=True)
class Residual:
    """Fills up with the factors of remainders while a merge passes by; `rank` None takes what exactness needs."""

    path: Path
    family: str
    rank: int | None = None
    modules: dict[str, Weights] = field(default_factory=dict)
    missing: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, module: str, remainder: Tensor, size: float) -> None:
        """Add the remainder [out, ...] of one weight whose delta has the norm `size`."""
        matrix = remainder.flatten(1)
        lost = float(torch.linalg.vector_norm(matrix, dtype=torch.float64))
        self.missing[module] = lost, size
        if lost <= _EXACT * size:
            return
        fit = self._fit(matrix, lost, size)
        self.missing[module] = fit.lost, size
        self.modules[module] = weights_from(fit, tuple(remainder.shape))

    def _fit(self, matrix: Tensor, lost: float, size: float) -> Fit:
        smaller = min(matrix.shape)
        if self.rank is not None and self.rank < smaller:
            return best_fit(matrix, rank=self.rank)
        if self.rank is None:
            fit = best_fit(matrix, keep=max(0.5, 1 - (_EXACT * size / lost) ** 2 / 2))
            if fit.up.shape[1] < smaller:
                return fit
        eye = torch.eye(smaller, dtype=torch.float64)  # all ranks: the matrix itself, to the last bit
        up, down = (eye, matrix.double()) if smaller == matrix.shape[0] else (matrix.double(), eye)
        return Fit(up=up, down=down, lost=0.0)

    def write(self, merged: str) -> None:
        """Write the adapter in fp32. Raises as `write_adapter` does; nothing is written where nothing was lost."""
        if self.modules:
            adapter = Adapter(
                name=self.path.stem,
                family=self.family,
                modules=self.modules,
                metadata={"lora_diffusion.residual_of": merged},
            )
            write_adapter(adapter, self.path, dtype="fp32")

    @property
    def report(self) -> Report:
        """The share of each delta that is still missing from merged + residual."""
        return report_of(self.missing)
