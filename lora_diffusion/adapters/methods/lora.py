"""LoRA (Hu et al. 2021) for Linear and Conv2d: y + alpha / rank * up(down(x))."""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_diffusion.adapters.layer import AdapterLayer, low_rank
from lora_diffusion.adapters.spec import Weights

__all__ = ["LoRA", "delta_weight"]


def delta_weight(weights: Weights, shape: Sequence[int]) -> Tensor:
    """Return alpha / rank * up @ down in fp32, in the shape of the base weight ([out, in] or [out, in, kh, kw]).

    A 1x1 convolution stored in two dimensions, and the reverse, are the same matrix and fit either shape.
    Raises ValueError when the factors do not multiply to that shape, or are not all that the method has.
    """
    if not weights.is_plain:
        raise ValueError(f"the delta of {weights.method} with {sorted(weights.extra)} is more than up @ down")
    product = weights.up.float().flatten(1) @ weights.down.float().flatten(1)
    if product.shape[0] != shape[0] or product.numel() != torch.Size(shape).numel():
        raise ValueError(f"up @ down is {tuple(product.shape)}, which does not fit a weight of shape {tuple(shape)}")
    return (weights.scale * product).reshape(*shape)


class LoRA(AdapterLayer):
    """down [rank, in] and up [out, rank] for a Linear; [rank, in, kh, kw] and [out, rank, 1, 1] for a Conv2d."""

    method = "lora"

    def __init__(self, weights: Weights, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.Parameter(weights.down)
        self.up = nn.Parameter(weights.up)
        self.alpha = weights.alpha
        self.dropout = dropout

    @classmethod
    def supports(cls, base: nn.Module) -> bool:
        return isinstance(base, nn.Linear) or (isinstance(base, nn.Conv2d) and base.groups == 1)

    @classmethod
    def create(cls, base: nn.Module, *, rank: int, alpha: float, dropout: float, generator: torch.Generator) -> Self:
        weight = _weight_of(base)
        fan_in = weight[0].numel()
        bound = 1 / math.sqrt(fan_in)  # kaiming uniform with a = sqrt(5), the initialisation of the paper's code
        down = torch.empty(rank, *weight.shape[1:]).uniform_(-bound, bound, generator=generator)
        up = torch.zeros(weight.shape[0], rank, *([1] * (weight.ndim - 2)))
        device = weight.device
        return cls(Weights(down=down.to(device), up=up.to(device), alpha=alpha), dropout=dropout)

    @classmethod
    def from_weights(cls, weights: Weights, base: nn.Module) -> Self:
        shape = _weight_of(base).shape
        rank, out = weights.rank, shape[0]
        if weights.down[0].numel() != shape[1:].numel() or tuple(weights.up.flatten(1).shape) != (out, rank):
            found = f"down {tuple(weights.down.shape)} and up {tuple(weights.up.shape)}"
            raise ValueError(f"{found} do not fit a base weight of shape {tuple(shape)}")
        device = _weight_of(base).device
        down = weights.down.to(device, torch.float32).reshape(rank, *shape[1:])
        up = weights.up.to(device, torch.float32).reshape(out, rank, *([1] * (len(shape) - 2)))
        return cls(Weights(down=down, up=up, alpha=weights.alpha))

    @property
    def scale(self) -> float:
        return float(self.alpha / self.down.shape[0])

    def weights(self) -> Weights:
        return Weights(
            down=self.down.detach().clone(), up=self.up.detach().clone(), alpha=self.alpha, method=self.method
        )

    def factors(self) -> tuple[Tensor, Tensor, float]:
        return self.down, self.up, self.scale

    def delta(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        x = F.dropout(x, self.dropout, self.training)
        return low_rank(x, self.down.to(x.dtype), self.up.to(x.dtype), base, self.scale)

    def trained(self, x: Tensor, base: nn.Module) -> Tensor:
        if isinstance(base, nn.Linear) and not (self.training and self.dropout):
            node: Any = _TrainedLinear.apply
            result: Tensor = node(x, base.weight, base.bias, self.down, self.up, self.scale)
            return result
        return super().trained(x, base)

    def merged_weight(self, weight: Tensor, by: float = 1.0) -> Tensor:
        return weight.float() + by * delta_weight(self.weights(), weight.shape)


def _weight_of(base: nn.Module) -> Tensor:
    weight = base.weight
    assert isinstance(weight, Tensor)
    return weight


class _TrainedLinear(torch.autograd.Function):
    """base(x) + scale * up(down(x)) as one node of the graph.

    The frozen base needs no gradient, so x and down(x) are all that the backward pass needs. Written as separate
    operations the graph would hold the casts of both fp32 factors and the sum besides.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        down_, up_ = down.to(x.dtype), up.to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        hidden = rows @ down_.t()
        y = F.linear(rows, weight, bias).addmm_(hidden, up_.t(), alpha=scale)
        ctx.save_for_backward(x, weight, down_, up_, hidden)
        ctx.scale = scale
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, hidden = ctx.saved_tensors
        gy = grads[0].reshape(-1, grads[0].shape[-1])
        gh = (gy @ up).mul_(ctx.scale)
        gx = None
        if ctx.needs_input_grad[0]:
            gx = (gy @ weight).addmm_(gh, down).view_as(x)
        g_down = (gh.t() @ x.reshape(-1, x.shape[-1])).float()
        g_up = (gy.t() @ hidden).float().mul_(ctx.scale)
        return gx, None, None, g_down, g_up, None
