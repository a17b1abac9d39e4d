"""LoRA (Hu et al. 2021) for Linear and Conv2d."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights

__all__ = ["delta_weight"]


def delta_weight(weights: Weights, shape: Sequence[int]) -> Tensor:
    """Return alpha / rank * up @ down in fp32, in the shape of the base weight ([out, in] or [out, in, kh, kw]).

    A 1x1 convolution stored in two dimensions, and the reverse, are the same matrix and fit either shape.
    Raises ValueError when the factors do not multiply to that shape.
    """
    product = weights.up.float().flatten(1) @ weights.down.float().flatten(1)
    if product.shape[0] != shape[0] or product.numel() != torch.Size(shape).numel():
        raise ValueError(f"up @ down is {tuple(product.shape)}, which does not fit a weight of shape {tuple(shape)}")
    return (weights.scale * product).reshape(*shape)
