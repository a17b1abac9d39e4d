"""From the tensors of any method to a whole delta, and from there to a plain LoRA.

The best approximation of a matrix at a rank is its truncated SVD (Eckart and Young 1936). Where the delta is a product
of small factors the SVD is that of the small core between two QR decompositions; where it is whole and large, its
leading singular vectors come from a randomised range finder (Halko, Martinsson and Tropp 2011, algorithm 4.4).
"""

import torch
from torch import Tensor

from lora_diffusion.adapters.dense import bias_delta, delta, direction
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable, UsageError
from lora_diffusion.files.factors import Factors, core, factors

__all__ = ["as_lora", "bias_delta", "delta", "direction"]

# Below this side the whole spectrum takes less than a second; above it a rank is found by random projections.
_LARGE = 768
_OVERSAMPLING, _POWERS = 16, 3
# Energy that rounding leaves: fp32 factors carry noise of 1e-7 of their norm, 1e-14 of its square.
_NOISE = 1e-13


def as_lora(
    weights: Weights, *, rank: int | None = None, keep: float | None = None, base: Tensor | None = None
) -> tuple[Weights, float]:
    """Return the plain LoRA nearest to the delta of any method, and its relative Frobenius error.

    At a `rank`, or at the smallest rank that keeps a share `keep` of the squared norm, or, with neither, at the
    smallest rank that loses nothing but rounding. `base` is the base weight, which DoRA needs. A plain LoRA whose rank
    is as low as asked stays as it is. The result is fp32 with alpha = rank; the same input gives the same bits on one
    machine.

    Raises UsageError for both or an impossible `rank` or `keep`, and for DoRA without a base; NotMergeable for the
    norms and biases of whole deltas, which no LoRA can hold.
    """
    _check(weights, rank, keep)
    if weights.is_plain and (rank is None or weights.rank <= rank) and keep is None:
        return weights, 0.0
    pair = None if "dora_scale" in weights.extra else factors(weights)
    if pair is not None and pair[0].shape[1] < min(pair[0].shape[0], pair[1].shape[1]):
        found, error, size = _of_factors(pair, rank, keep)
    else:
        matrix = delta(weights, base).double().flatten(1)
        found = _of_matrix(matrix, rank, keep)
        error, size = float((matrix - found[0] @ found[1]).norm()), float(matrix.norm())
    return _lora(found, weights.shape if base is None else tuple(base.shape)), error / size if size else 0.0


def _check(weights: Weights, rank: int | None, keep: float | None) -> None:
    if rank is not None and keep is not None:
        raise UsageError("a conversion takes a rank or a share to keep, not both")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} is not possible", hint="use 1 or more")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"a share of {keep} cannot be kept", hint="use a number above 0 and up to 1, such as 0.99")
    if len(weights.shape) < 2 or "bias" in weights.extra:
        raise NotMergeable(
            "norms and biases are no product of two factors",
            hint="leave them out, or merge the adapter into a base model",
        )


def _of_factors(pair: Factors, rank: int | None, keep: float | None) -> tuple[Factors, float, float]:
    q_up, q_down, middle = core(pair)
    left, values, right = torch.linalg.svd(middle)
    count = _count(values**2, rank, keep)
    root = values[:count].sqrt()
    error, size = float(values[count:].norm()), float(values.norm())
    return (q_up @ left[:, :count] * root, root[:, None] * right[:count] @ q_down.T), error, size


def _of_matrix(matrix: Tensor, rank: int | None, keep: float | None) -> Factors:
    if matrix.shape[0] < matrix.shape[1]:
        down, up = _of_matrix(matrix.T, rank, keep)
        return up.T, down.T
    if rank is not None and min(matrix.shape) > max(_LARGE, 2 * (rank + _OVERSAMPLING)):
        vectors = _leading(matrix, rank)
    else:
        # right singular vectors and squared singular values, ascending, from the smaller side alone
        energy, vectors = torch.linalg.eigh(matrix.T @ matrix)
        vectors = vectors.flip(1)[:, : _count(energy.flip(0).clamp_min(0), rank, keep)]
    up = matrix @ vectors
    root = up.norm(dim=0).clamp_min(torch.finfo(up.dtype).tiny).sqrt()
    return up / root, root[:, None] * vectors.T


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Return the leading right singular vectors [n, rank] of a large matrix [m, n]."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(matrix.shape[1], rank + _OVERSAMPLING, generator=draw, dtype=matrix.dtype)
    found = torch.linalg.qr(matrix @ start)[0]
    for _ in range(_POWERS):
        found = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ found)[0])[0]
    right: Tensor = torch.linalg.svd(found.T @ matrix, full_matrices=False)[2]
    return right[:rank].T


def _count(energy: Tensor, rank: int | None, keep: float | None) -> int:
    """Return how many of the descending squared singular values are wanted, at least one."""
    if rank is not None:
        return min(rank, len(energy))
    total = energy.cumsum(0)
    wanted = float(total[-1]) * min(keep or 1.0, 1 - _NOISE)
    return min(int((total < wanted).sum()) + 1, len(energy))


def _lora(pair: Factors, shape: tuple[int, ...]) -> Weights:
    up, down = pair[0].float(), pair[1].float()
    rank = up.shape[1]
    ones = (1,) * (len(shape) - 2)
    return Weights(up=up.reshape(-1, rank, *ones), down=down.reshape(rank, *shape[1:]), alpha=float(rank))
