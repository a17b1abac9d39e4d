"""An adapter of any method beside its base, as the whole change of the weight: for what is read, not for training."""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_diffusion.adapters.dense import bias_delta, delta
from lora_diffusion.adapters.layer import AdapterLayer
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, WrongFamily

__all__ = ["Whole"]


class Whole(AdapterLayer):
    """LoHa, LoKr, whole deltas, Tucker factors and DoRA. Takes as much memory as the base weight, in its dtype.

    The delta of DoRA is that of the base at the time of loading.
    """

    method: ClassVar[str] = "whole"
    change: Tensor
    bias: Tensor | None

    def __init__(self, weights: Weights, base: nn.Module) -> None:
        super().__init__()
        weight = base.weight
        assert isinstance(weight, Tensor)
        on_device = {role: each.to(weight.device) for role, each in weights.tensors().items()}
        extra = {**weights.extra, **{role: each for role, each in on_device.items() if role in weights.extra}}
        here = Weights(
            up=on_device["up"], down=on_device["down"], alpha=weights.alpha, method=weights.method, extra=extra
        )
        added = bias_delta(here)
        self.register_buffer("change", delta(here, weight.detach()).to(weight.dtype), persistent=False)
        self.register_buffer("bias", None if added is None else added.to(weight.dtype), persistent=False)
        self._weights = weights

    @classmethod
    def supports(cls, base: nn.Module) -> bool:
        return isinstance(base, nn.Linear) or (isinstance(base, nn.Conv2d) and base.groups == 1)

    @classmethod
    def create(cls, base: nn.Module, *, rank: int, alpha: float, dropout: float, generator: torch.Generator) -> Self:
        raise TargetError("whole changes are read from files, not trained", hint="train with adapter.method = lora")

    @classmethod
    def from_weights(cls, weights: Weights, base: nn.Module) -> Self:
        try:
            return cls(weights, base)
        except WrongFamily as error:
            raise ValueError(str(error)) from error

    def weights(self) -> Weights:
        return self._weights

    def delta(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        change = self.change.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if isinstance(base, nn.Conv2d):
            padding = base.padding if isinstance(base.padding, str) else tuple(base.padding)
            return F.conv2d(x, change, bias, base.stride, padding, base.dilation)
        return F.linear(x, change, bias)

    def merged_weight(self, weight: Tensor, by: float = 1.0) -> Tensor:
        return weight.float() + by * delta(self._weights, weight)
