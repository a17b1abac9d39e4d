"""How far a result is from a weighted sum of deltas, whatever method trained them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.dense import bias_delta, delta
from lora_diffusion.files.factors import Factors, factors, norm, stack

__all__ = ["distance"]


def distance(
    result: Weights | None, meant: Sequence[tuple[Weights, float]], base: Tensor | None = None
) -> tuple[float, float]:
    """Return the Frobenius norms of (result - weighted sum) and of that sum, in float64; DoRA needs the base weight.

    Changes of biases are part of both, as one more column. A sum that cancels (A:1 A:-1) is compared with its terms:
    rounding against nothing would be infinitely wrong.
    """
    if all(each.is_plain for each, _ in meant) and (result is None or result.is_plain):
        return _by_factors(result, meant)
    terms = [weight * _dense(each, base) for each, weight in meant]
    total = torch.stack(terms).sum(0)
    got = torch.zeros_like(total) if result is None else _dense(result, base)
    return _norm(got - total), _size(_norm(total), [_norm(each) for each in terms])


def _dense(weights: Weights, base: Tensor | None) -> Tensor:
    """Return delta and bias side by side in float64, [out, n + 1]."""
    change, bias = delta(weights, base).double().flatten(1), bias_delta(weights)
    column = torch.zeros(len(change)) if bias is None else bias
    return torch.cat([change, column.double()[:, None]], dim=1)


def _by_factors(result: Weights | None, meant: Sequence[tuple[Weights, float]]) -> tuple[float, float]:
    terms: list[Factors] = [factors(each, weight) for each, weight in meant]
    got = [] if result is None else [factors(result, -1.0)]
    total = norm(stack(terms)) if terms else 0.0
    return norm(stack(terms + got)), _size(total, [norm(each) for each in terms])


def _size(total: float, terms: Sequence[float]) -> float:
    whole = math.hypot(*terms)
    return total if total > 1e-12 * whole else whole


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.vector_norm(matrix))
