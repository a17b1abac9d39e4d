"""How much a module changes, and in how many directions: the singular values of its delta, without forming it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_diffusion.adapters.dense import direction
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.assembly import is_finite
from lora_diffusion.files.factors import factors, spectrum

__all__ = ["ENERGY", "Layer", "layer_of"]

ENERGY = 0.99
"""Share of the squared norm that the effective rank holds."""
# Side above which the spectrum of a whole delta is left out: it takes seconds per module, and files have hundreds.
_LARGE = 768


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module in figures.

    `norm` is the Frobenius norm of its delta, in the unit of the weights; `effective_rank` how many directions hold
    99 % of the squared norm. Both are None where the values are not finite, the rank also where a whole delta is large.
    Of a weight-decomposed module they describe the direction, before the norms are set.
    """

    method: str
    shape: tuple[int, ...]
    rank: int
    alpha: float
    scale: float
    dtype: str
    norm: float | None
    effective_rank: int | None


def layer_of(weights: Weights) -> Layer:
    """Return the figures of one module."""
    finite = math.isfinite(weights.alpha) and all(is_finite(each) for each in weights.tensors().values())
    size, effective = _figures(weights) if finite else (None, None)
    return Layer(
        method=weights.method + ("+dora" if "dora_scale" in weights.extra else ""),
        shape=weights.shape,
        rank=weights.rank,
        alpha=weights.alpha,
        scale=weights.scale,
        dtype=str(weights.up.dtype).removeprefix("torch."),
        norm=size,
        effective_rank=effective,
    )


def _figures(weights: Weights) -> tuple[float | None, int | None]:
    values = _singular_values(_undecomposed(weights))
    if values is None:
        size = float(direction(_undecomposed(weights)).double().norm())
        return (size if math.isfinite(size) else None), None
    size = float(values.norm())
    if not math.isfinite(size):
        return None, None
    energy = values.square().cumsum(0)
    return size, int((energy < ENERGY * energy[-1]).sum()) + 1 if size else 0


def _undecomposed(weights: Weights) -> Weights:
    return replace(weights, extra={role: each for role, each in weights.extra.items() if role != "dora_scale"})


def _singular_values(weights: Weights) -> Tensor | None:
    """Return them in float64, descending; None where a whole delta would have to be decomposed that is too large."""
    if weights.method == "lokr" and "w2_a" not in weights.extra:
        first = weights.up.double() @ weights.extra["w1_b"].double() if "w1_b" in weights.extra else weights.up.double()
        both = [_spectrum(each) for each in (first, weights.down.double().flatten(1))]
        products = abs(weights.scale) * torch.outer(*both).flatten()
        return torch.sort(products, descending=True)[0]
    out, *inner = weights.shape
    smaller = min(out, torch.Size(inner).numel())
    if weights.method == "full" or (weights.method == "loha" and weights.rank**2 >= smaller):
        matrix = direction(weights).double().reshape(out, -1)
        return _spectrum(matrix) if smaller <= _LARGE else None
    return spectrum(factors(weights))


def _spectrum(matrix: Tensor) -> Tensor:
    """Return the singular values of a whole matrix; huge factors of a damaged file multiply to infinity."""
    if not torch.isfinite(matrix).all():
        return torch.full((1,), math.inf, dtype=matrix.dtype)
    values: Tensor = torch.linalg.svdvals(matrix)
    return values
