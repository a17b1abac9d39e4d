"""TIES (Yadav et al. 2023): trim small entries, elect one sign per entry, add those that agree.

The paper takes the mean of the agreeing entries and scales it by one number afterwards. Here the weights are those
numbers, so agreeing entries are added: with nothing trimmed and no disagreement the result is the weighted sum. A mean
would shrink a blend of n adapters by up to n (measured on PEFT 0.21.2 with two: 0.67 of the intended size).
"""

from collections.abc import Sequence

import torch

from lora_diffusion.generation.blending import Fitted, How, Term, dense_sum, keep_largest

__all__ = ["combine"]

name = "ties"
says = "for conflicting styles: of the largest entries (--density) only those that agree on the sign are added"
exact = False
takes = ("rank", "keep", "density")


def combine(terms: Sequence[Term], how: How) -> Fitted:
    """Return the fit of the sum of trimmed entries that share the sign of their weighted total."""
    trimmed = torch.stack([keep_largest(term.dense(), how.density) for term in terms])
    elected = trimmed.sum(0).sign()
    return dense_sum((trimmed * (trimmed.sign() == elected)).sum(0), terms, how)
