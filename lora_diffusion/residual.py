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
from lora_diffusion.lowrank import best_fit

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
        lost = float(torch.linalg.vector_norm(remainder, dtype=torch.float64))
        self.missing[module] = lost, size
        if lost <= _EXACT * size:
            return
        self.modules[module], left = self._fit(remainder, lost, size)
        self.missing[module] = left, size

    def _fit(self, remainder: Tensor, lost: float, size: float) -> tuple[Weights, float]:
        shape = tuple(remainder.shape)
        smaller = min(shape[0], remainder[0].numel())
        if self.rank is not None and self.rank < smaller:
            return best_fit(remainder, shape, rank=self.rank)
        if self.rank is None:
            weights, left = best_fit(remainder, shape, keep=max(0.5, 1 - (_EXACT * size / lost) ** 2 / 2))
            if weights.rank < smaller:
                return weights, left
        return _itself(remainder), 0.0

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


def _itself(matrix: Tensor) -> Weights:
    """Return factors of all ranks whose product is the matrix to the last bit: one of them is the identity."""
    out, inside = matrix.shape[0], matrix[0].numel()
    kernel = matrix.shape[2:]
    if out <= inside:
        up = torch.eye(out).reshape(out, out, *(1 for _ in kernel))
        return Weights(up=up, down=matrix.float(), alpha=float(out))
    down = torch.eye(inside).reshape(inside, *matrix.shape[1:])
    return Weights(up=matrix.float().reshape(out, inside, *(1 for _ in kernel)), down=down, alpha=float(inside))
