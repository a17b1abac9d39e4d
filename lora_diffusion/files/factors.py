"""Arithmetic on weight deltas without ever forming them.

A delta is up @ down with up [out, r] and down [r, in * kh * kw]; a sum of deltas is one such product with more columns.
Norms come from the small matrix R_up @ R_down.T of two QR decompositions: exact, and milliseconds where the full
matrix and its SVD take seconds.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable

__all__ = ["Factors", "core", "factors", "norm", "stack"]

Factors = tuple[Tensor, Tensor]
"""up [out, r] and down [r, n], both float64."""


def factors(weights: Weights, weight: float = 1.0) -> Factors:
    """Return the two factors of weight * alpha / rank * up @ down in float64, convolutions flattened.

    Raises NotMergeable for a method whose delta is no product of two factors.
    """
    if weights.method != "lora":
        raise NotMergeable(f"a delta of the method {weights.method} is no product of two factors")
    up = weights.up.double().flatten(1) * (weight * weights.scale)
    return up, weights.down.double().flatten(1)


def stack(parts: Iterable[Factors]) -> Factors:
    """Return the factors of the sum of deltas: ranks add up, nothing is lost."""
    ups, downs = zip(*parts, strict=True)
    return torch.cat(ups, dim=1), torch.cat(downs, dim=0)


def core(pair: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Return orthonormal q_up [out, k], q_down [n, l] and the core [k, l] with delta = q_up @ core @ q_down.T."""
    q_up, r_up = torch.linalg.qr(pair[0])
    q_down, r_down = torch.linalg.qr(pair[1].T)
    return q_up, q_down, r_up @ r_down.T


def norm(pair: Factors) -> float:
    """Return the Frobenius norm of the delta."""
    return float(torch.linalg.matrix_norm(core(pair)[2]))
