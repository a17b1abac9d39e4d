"""The weighted sum at the smallest rank that does, or at a rank that is asked for: the best that this rank allows."""

from collections.abc import Sequence

from lora_diffusion.files.factors import factors, norm, stack
from lora_diffusion.generation.blending import Fitted, How, Term, concat
from lora_diffusion.lowrank import cut

__all__ = ["combine"]

name = "svd"
says = "the best fit at --rank, or the smallest that keeps the share --keep of each layer; without either exact"
exact = False
takes = ("rank", "keep")


def combine(terms: Sequence[Term], how: How) -> Fitted:
    """Return the truncated sum; without a limit as small as it gets without a loss."""
    whole = concat.combine(terms, how).weights
    keep = 1.0 if how.rank is None and how.keep is None else how.keep
    weights = cut(whole, rank=how.rank, keep=keep)
    lost = norm(stack([factors(whole), factors(weights, -1.0)]))
    return Fitted(weights=weights, lost=lost, size=norm(factors(whole)))
