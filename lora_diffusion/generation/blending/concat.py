"""The weighted sum itself: columns of up and rows of down side by side, with the weights inside up."""

from collections.abc import Sequence

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.generation.blending import Fitted, How, Term

__all__ = ["combine"]

name = "concat"
says = "exact; ranks add up"
exact = True
takes: tuple[str, ...] = ()


def combine(terms: Sequence[Term], how: How) -> Fitted:
    """Return fp32 factors whose rank is the sum of the ranks and whose alpha is the rank."""
    down = torch.cat([term.weights.down.float() for term in terms])
    up = torch.cat([term.weights.up.float() * (term.weight * term.weights.scale) for term in terms], dim=1)
    return Fitted(weights=Weights(down=down, up=up, alpha=float(down.shape[0])), lost=0.0, size=0.0)
