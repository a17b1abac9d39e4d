"""The best product of two factors for a matrix, at a rank or for a share of its energy.

Eckart and Young 1936: the leading singular vectors. They come from the Gram matrix of the smaller side in float64: one
product and one small eigenproblem, where an SVD of a 1280 x 10240 matrix takes several times as long. Squaring leaves
singular values below 1e-8 of the largest uncertain, far below the 1e-7 that fp32 factors resolve.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable, UsageError
from lora_diffusion.files.dense import as_lora
from lora_diffusion.files.factors import core, factors, norm

__all__ = ["Fit", "best_fit", "count_of", "cut", "low_rank", "require_limit", "weights_from"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """up [out, k] and down [k, n] in float64, and the Frobenius norm of what they leave out."""

    up: Tensor
    down: Tensor
    lost: float


def require_limit(rank: int | None, keep: float | None) -> None:
    """Raise UsageError unless exactly one of a rank and a share of the energy is given, and it is possible."""
    if (rank is None) == (keep is None):
        raise UsageError("this needs either a rank or a share to keep", hint="give --rank 16 or --keep 0.99")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} is not possible", hint="use 1 or more")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"a share of {keep} cannot be kept", hint="use a number above 0 and up to 1, such as 0.99")


def count_of(values: Tensor, rank: int | None, keep: float | None) -> int:
    """Return how many of the descending singular values to keep: `rank`, or the fewest with that share of the energy.

    At least 1. All of the energy means all that rounding leaves of it: the rest is noise of fp32 factors, 1e-7 of the
    norm.
    """
    if rank is not None:
        return min(rank, len(values))
    energy = (values**2).cumsum(0)
    wanted = float(energy[-1]) * min(1.0 if keep is None else keep, 1 - 1e-13)
    return min(int((energy < wanted).sum()) + 1, len(values))


def best_fit(matrix: Tensor, *, rank: int | None = None, keep: float | None = None) -> Fit:
    """Return the best factors of a matrix [out, n] at a rank or for a share of its energy."""
    exact = matrix.double()
    wide = exact.shape[0] <= exact.shape[1]
    energy, vectors = torch.linalg.eigh(exact @ exact.T if wide else exact.T @ exact)
    values = energy.clamp(min=0).flip(0).sqrt()
    count = count_of(values, rank, keep)
    leading = vectors.flip(1)[:, :count]
    root = values[:count].clamp(min=float(values[0]) * 1e-8 or 1.0).sqrt()  # both factors get the same magnitude
    up, down = (leading * root, leading.T @ exact / root[:, None]) if wide else (exact @ leading / root, leading.T)
    if not wide:
        down = down * root[:, None]
    return Fit(up=up, down=down, lost=float(torch.linalg.vector_norm(values[count:])))


def weights_from(fit: Fit, shape: torch.Size | tuple[int, ...]) -> Weights:
    """Return fp32 weights whose alpha is the rank, for a base weight of that shape ([out, in] or [out, in, kh, kw])."""
    rank = fit.up.shape[1]
    return Weights(
        down=fit.down.float().reshape(rank, *shape[1:]),
        up=fit.up.float().reshape(shape[0], rank, *(1 for _ in shape[2:])),
        alpha=float(rank),
    )


def cut(weights: Weights, *, rank: int | None = None, keep: float | None = None) -> Weights:
    """Return the best approximation of a low-rank delta; the full matrix is never formed.

    The SVD is that of the small core between two QR decompositions. A rank that is already as low stays as it is.
    """
    q_up, q_down, middle = core(factors(weights))
    left, values, right = torch.linalg.svd(middle)
    count = count_of(values, rank, keep)
    if count >= weights.rank:
        return weights
    root = values[:count].sqrt()
    fit = Fit(up=q_up @ left[:, :count] * root, down=root[:, None] * right[:count] @ q_down.T, lost=0.0)
    shape = (weights.up.shape[0], *weights.down.shape[1:])
    return weights_from(fit, shape)


def low_rank(weights: Weights, *, name: str, base: Tensor | None = None) -> tuple[Weights, float]:
    """Return plain low-rank weights for a module of any method, and the Frobenius norm of what that lost.

    Plain ones return as they are. Others get the rank that their delta has, up to rounding: r * r for LoHa, the whole
    smaller side for many LoKr. Raises NotMergeable for a change that no product of two factors can make (a bias, the
    gain of a norm), UsageError for DoRA without the `base` weight that its delta depends on.
    """
    try:
        result, error = as_lora(weights, base=base)
    except (NotMergeable, UsageError) as problem:
        raise type(problem)(f"{name}: {problem}", hint=problem.hint) from None
    return result, error * norm(factors(result))
