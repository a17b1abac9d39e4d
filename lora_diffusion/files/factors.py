"""Arithmetic on weight deltas without ever forming them.

A delta is up @ down with up [out, r] and down [r, in * kh * kw]; a sum of deltas is one such product with more columns.
Norms come from the small matrix R_up @ R_down.T of two QR decompositions: exact, and milliseconds where the full
matrix and its SVD take seconds.

Other methods are such products too, of a larger rank: the Hadamard product of two of rank r is one of rank r * r (the
Khatri-Rao product of their factors), a Kronecker product of a [a, b] and one of rank r is one of rank b * r.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lora_diffusion.adapters.dense import direction
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable

__all__ = ["Factors", "core", "factors", "norm", "quick_norm", "spectrum", "stack"]

Factors = tuple[Tensor, Tensor]
"""up [out, r] and down [r, n], both float64."""


def factors(weights: Weights, weight: float = 1.0) -> Factors:
    """Return two factors whose product is weight * delta, in float64, convolutions flattened; exact for every method.

    A change of the bias is no part of the delta. Where the rank would reach the smaller side of the delta, one factor
    is the delta itself. Raises NotMergeable for a weight-decomposed module: without the base it has no delta.
    """
    if "dora_scale" in weights.extra:
        raise NotMergeable(
            "a weight-decomposed delta (DoRA) is no product of two factors",
            hint="convert it to a plain LoRA with the base model that it was trained on",
        )
    if (pair := _product(weights)) is not None:
        return pair[0] * (weight * weights.scale), pair[1]
    up, down = _whole(weights)
    return up * weight, down


def _product(weights: Weights) -> Factors | None:
    """Return the unscaled factors, or None where they are no smaller than the delta."""
    out, *inner = weights.shape
    smaller = min(out, torch.Size(inner).numel())
    tensors = {role: each.double() for role, each in weights.tensors().items()}
    if weights.method == "lora":
        return tensors["up"].flatten(1), _inner(tensors, "mid", "down")
    if weights.method == "loha" and weights.rank**2 < smaller:
        first, second = (_inner(tensors, mid, down) for mid, down in (("mid", "down"), ("mid2", "down2")))
        return _khatri_rao(tensors["up"], tensors["up2"]), _khatri_rao(first.T, second.T).T
    if weights.method == "lokr" and "w2_a" in tensors:
        first = tensors["up"] @ tensors["w1_b"] if "w1_b" in tensors else tensors["up"]
        if first.shape[1] * tensors["down"].shape[0] < smaller:
            inside = torch.eye(first.shape[1], dtype=torch.float64)
            return torch.kron(first, tensors["w2_a"].contiguous()), torch.kron(inside, _inner(tensors, "mid", "down"))
    return None


def _inner(tensors: dict[str, Tensor], mid: str, down: str) -> Tensor:
    """Return down with its middle factor multiplied in, [r, n]."""
    flat = tensors[down].flatten(1)
    return torch.einsum("ijhw,jc->ichw", tensors[mid], flat).flatten(1) if mid in tensors else flat


def _khatri_rao(one: Tensor, other: Tensor) -> Tensor:
    """Return the products of every column of one with every column of the other, row by row: [n, r * s]."""
    return (one[:, :, None] * other[:, None, :]).flatten(1)


def _whole(weights: Weights) -> Factors:
    """Return the delta itself and the identity on its smaller side."""
    matrix = direction(weights).double()
    matrix = matrix.reshape(matrix.shape[0], -1)
    out, inner = matrix.shape
    if out < inner:
        return torch.eye(out, dtype=torch.float64), matrix
    return matrix, torch.eye(inner, dtype=torch.float64)


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


def quick_norm(pair: Factors) -> float:
    """Return the Frobenius norm from two Gram matrices, ten times as fast as `norm`.

    Below 1e-8 of the norms of the terms that were stacked, what is left of a difference is rounding.
    """
    return math.sqrt(max(0.0, float((pair[0].T @ pair[0] * (pair[1] @ pair[1].T)).sum())))


def spectrum(pair: Factors) -> Tensor:
    """Return the singular values of the delta, descending, from two Gram matrices.

    Those below 1e-8 of the largest are rounding. Infinite where the factors multiply to infinity.
    """
    up, down = pair[0].T @ pair[0], pair[1] @ pair[1].T
    if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
        return torch.full((1,), math.inf, dtype=up.dtype)
    values, vectors = torch.linalg.eigh(down)
    half = vectors * values.clamp_min(0).sqrt()
    inner = half.T @ up @ half
    if not torch.isfinite(inner).all():
        return torch.full((1,), math.inf, dtype=up.dtype)
    squares: Tensor = torch.linalg.eigvalsh(inner)
    return squares.clamp_min(0).sqrt().flip(0)
