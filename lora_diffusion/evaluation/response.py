"""How much pictures change."""

from collections.abc import Sequence

import numpy as np

from lora_diffusion.evaluation.evidence import Drawn
from lora_diffusion.evaluation.features import Array

__all__ = ["difference"]


def difference(one: Sequence[Drawn], other: Sequence[Drawn]) -> Array:
    """Return the mean absolute difference [n] of pictures of the same prompts and noise, 0..1."""
    pairs = zip(one, other, strict=True)
    return np.array([np.abs(a.pixels.astype(float) - b.pixels.astype(float)).mean() / 255 for a, b in pairs])
