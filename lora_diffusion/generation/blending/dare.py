"""DARE (Yu et al. 2023): drop entries at random, scale the rest up so that the expected delta stays."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from lora_diffusion.generation.blending import Fitted, How, Term, dense_sum
from lora_diffusion.seeds import generator

__all__ = ["combine"]

name = "dare"
says = "for conflicting styles: entries are dropped at random (--density stays, --seed) and the rest scaled up"
exact = False
takes = ("rank", "keep", "density", "seed")


def combine(terms: Sequence[Term], how: How) -> Fitted:
    """Return the fit of the sum of dropped and rescaled deltas; what is dropped depends on seed, adapter and module."""
    seen: Counter[str] = Counter()
    total: Tensor | None = None
    for term in terms:
        delta = term.dense()
        draw = generator(how.seed, "dare", term.key, seen[term.key], how.module)
        stays = torch.rand(delta.shape, generator=draw) < how.density
        seen[term.key] += 1
        kept = delta * stays / how.density
        total = kept if total is None else total + kept
    assert total is not None
    return dense_sum(total, terms, how)
