"""The sum of what is large: of each delta only its largest entries."""

from collections.abc import Sequence

from torch import Tensor

from lora_diffusion.generation.blending import Fitted, How, Term, dense_sum, keep_largest

__all__ = ["combine"]

name = "magnitude"
says = "the sum of the largest entries of each delta (--density)"
exact = False
takes = ("rank", "keep", "density")


def combine(terms: Sequence[Term], how: How) -> Fitted:
    """Return the fit of the sum of pruned deltas; nothing is scaled up for what is dropped."""
    pruned: list[Tensor] = [keep_largest(term.dense(), how.density) for term in terms]
    return dense_sum(sum(pruned[1:], pruned[0]), terms, how)
