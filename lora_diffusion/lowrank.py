"""Low-rank weights of matrices, of larger ranks and of other methods; the arithmetic is that of `files.dense`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable, UsageError, WrongFamily
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.dense import as_lora
from lora_diffusion.files.factors import factors, norm

__all__ = ["Bases", "best_fit", "cut", "low_rank", "require_limit", "with_bias", "without_bias"]


class Bases:
    """Reads weights of a base model, where there is one and where they are needed."""

    def __init__(self, path: Path | str | None) -> None:
        self._checkpoint = None if path is None else open_checkpoint(Path(path))

    def for_any(self, module: str, weights: Sequence[Weights]) -> Tensor | None:
        """Return the base weight of a module where one of the weights depends on it; None without a base model.

        Raises WrongFamily where the base model has no such module.
        """
        if self._checkpoint is None or not any("dora_scale" in each.extra for each in weights):
            return None
        key = f"{module}.weight"
        if key not in self._checkpoint.tensors:
            raise WrongFamily(
                f"{self._checkpoint.path.name} has no {module}, on whose weight the adapter depends",
                hint="name the base model that the adapter was trained on",
            )
        return self._checkpoint.tensor(key)


def require_limit(rank: int | None, keep: float | None) -> None:
    """Raise UsageError unless exactly one of a rank and a share of the energy is given, and it is possible."""
    if (rank is None) == (keep is None):
        raise UsageError("this needs either a rank or a share to keep", hint="give --rank 16 or --keep 0.99")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} is not possible", hint="use 1 or more")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"a share of {keep} cannot be kept", hint="use a number above 0 and up to 1, such as 0.99")


def best_fit(
    matrix: Tensor, shape: tuple[int, ...], *, rank: int | None = None, keep: float | None = None
) -> tuple[Weights, float]:
    """Return the best low-rank weights for a matrix [out, n] and the Frobenius norm of what they leave out.

    `shape` is that of the base weight, [out, in] or [out, in, kh, kw].
    """
    whole = Weights(method="full", up=matrix.reshape(shape), down=torch.empty(0), alpha=1.0)
    result, error = as_lora(whole, rank=rank, keep=keep)
    return result, error * float(torch.linalg.vector_norm(matrix, dtype=torch.float64))


def cut(weights: Weights, *, rank: int | None = None, keep: float | None = None) -> Weights:
    """Return the best approximation of a low-rank delta; a rank that is already as low stays as it is.

    The SVD is that of the small core between two QR decompositions; the full matrix is not formed where the rank is
    below its sides.
    """
    result, _ = as_lora(weights, rank=rank, keep=keep)
    return result if result.rank < weights.rank else weights


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


def without_bias(weights: Weights) -> Weights:
    """Return weights that change the weight of a module alone."""
    if "bias" not in weights.extra:
        return weights
    return replace(weights, extra={role: each for role, each in weights.extra.items() if role != "bias"})


def with_bias(weights: Weights, bias: Tensor | None) -> Weights:
    """Return weights that also add `bias` [out] to that of the module; None and zeros leave them."""
    return weights if bias is None or not bias.any() else replace(weights, extra={**weights.extra, "bias": bias})
