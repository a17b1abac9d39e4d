"""A frozen base module with named adapters beside it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_diffusion.adapters.spec import Weights

__all__ = ["Adapted", "AdapterLayer", "low_rank"]


class AdapterLayer(nn.Module, ABC):
    """One method at one target module. Contract tests run on every class found in methods/.

    Parameters are fp32 whatever the base's dtype: in bf16 an update below 1/256 of a weight is lost.
    """

    method: ClassVar[str]

    @classmethod
    @abstractmethod
    def supports(cls, base: nn.Module) -> bool: ...

    @classmethod
    @abstractmethod
    def create(cls, base: nn.Module, *, rank: int, alpha: float, dropout: float, generator: torch.Generator) -> Self:
        """Return a fresh layer whose delta is zero."""

    @classmethod
    @abstractmethod
    def from_weights(cls, weights: Weights, base: nn.Module) -> Self:
        """Return the layer that holds trained weights. Raises ValueError when they do not fit the base."""

    @abstractmethod
    def weights(self) -> Weights:
        """Return a copy of the trained tensors."""

    @abstractmethod
    def delta(self, x: Tensor, y: Tensor, base: nn.Module) -> Tensor:
        """Return what to add to y = base(x)."""

    @abstractmethod
    def merged_weight(self, weight: Tensor, by: float = 1.0) -> Tensor:
        """Return the weight W' with base'(x) = y + by * delta, in fp32. Raises NotMergeable with the reason."""

    def factors(self) -> tuple[Tensor, Tensor, float] | None:
        """Return (down, up, scale) where the delta is just scale * up(down(x)), so that several can run as one."""
        return None

    def trained(self, x: Tensor, base: nn.Module) -> Tensor:
        """Return base(x) plus the delta, for a lone layer at weight 1; methods may do it in one step."""
        y: Tensor = base(x)
        return y + self.delta(x, y, base)


class Adapted(nn.Module):
    """A base module and its named adapters with their weights.

    The base is registered first, so that code that asks a model for the dtype of its first parameter sees the
    base's. Everything else that library code reads (weight, bias, in_features, stride) comes from the base.
    """

    weights: Tensor

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.layers = nn.ModuleList()
        self.names: list[str] = []
        self.register_buffer("weights", torch.zeros(0), persistent=False)
        self.lone = False
        self._values: list[float] = []
        self._stack: _Stack | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def add(self, name: str, layer: AdapterLayer, weight: float) -> None:
        self.names.append(name)
        self.layers.append(layer)
        self._replace_weights([*self._values, weight])

    def remove(self, name: str) -> None:
        place = self.names.index(name)
        values = list(self._values)
        del self.names[place], self.layers[place], values[place]
        self._replace_weights(values)

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Change weights by name in place: nothing is reloaded, and a compiled graph stays valid."""
        values = [weights.get(name, old) for name, old in zip(self.names, self._values, strict=True)]
        self._values, self.lone = values, values == [1.0]
        self.weights.copy_(torch.tensor(values))
        if self._stack is not None:
            self._stack.set_weights(values)

    def layer(self, name: str) -> AdapterLayer:
        found = self.layers[self.names.index(name)]
        assert isinstance(found, AdapterLayer)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self._trained(x) if torch.is_grad_enabled() else self._live(x)

    def _trained(self, x: Tensor) -> Tensor:
        self._stack = None  # an optimiser step changes what was stacked
        if self.lone:
            return self.layer(self.names[0]).trained(x, self.base)
        y: Tensor = self.base(x)
        return y + self._sum(x, y, list(range(len(self.layers))))

    def _live(self, x: Tensor) -> Tensor:
        """Without gradients all low-rank layers run as one pair of products, however many there are."""
        if self._stack is None:
            self._stack = _Stack([layer for layer in self.layers if isinstance(layer, AdapterLayer)], x.dtype)
            self._stack.set_weights(self._values)
        y: Tensor = self.base(x)
        total = y + self._sum(x, y, self._stack.others) if self._stack.others else y
        return self._stack.add(total, x, self.base) if self._stack.members else total

    def _sum(self, x: Tensor, y: Tensor, places: list[int]) -> Tensor:
        weights = self.weights.to(y.dtype)
        return sum(
            (weights[i] * self.layer(self.names[i]).delta(x, y, self.base) for i in places),
            torch.zeros_like(y[..., :1]),
        )

    def _replace_weights(self, values: list[float]) -> None:
        device = next(self.base.parameters()).device
        self.weights = torch.tensor(values, dtype=torch.float32, device=device)
        self._values, self.lone = values, values == [1.0]
        self._stack = None

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._stack = None
        return super()._apply(fn, recurse)  # type: ignore[no-any-return,no-untyped-call]


class _Stack:
    """The low-rank layers of one target as a single one whose rank is the sum of theirs.

    The weights enter as one gain per rank row, between the two products, so changing them is one small copy.
    """

    def __init__(self, layers: list[AdapterLayer], dtype: torch.dtype) -> None:
        factors = [layer.factors() for layer in layers]
        self.members = [i for i, found in enumerate(factors) if found is not None]
        self.others = [i for i, found in enumerate(factors) if found is None]
        rows = [found for found in factors if found is not None]
        if rows:
            self.down = torch.cat([down.detach() for down, _, _ in rows]).to(dtype)
            self.up = torch.cat([up.detach() for _, up, _ in rows], dim=1).to(dtype)
            self.scales = [(found[2], found[0].shape[0]) for found in rows]
            self.gain = torch.zeros(len(self.down), dtype=dtype, device=self.down.device)

    def set_weights(self, weights: list[float]) -> None:
        """Set the weight of every layer of the target, in one copy."""
        if self.members:
            gains = [[weights[i] * scale] * rank for i, (scale, rank) in zip(self.members, self.scales, strict=True)]
            self.gain.copy_(torch.tensor([gain for rows in gains for gain in rows]))

    def add(self, y: Tensor, x: Tensor, base: nn.Module) -> Tensor:
        """Return y plus the weighted sum; a matrix product adds onto y in the same pass."""
        if isinstance(base, nn.Conv2d):
            return y + low_rank(x, self.down, self.up, base, self.gain)
        hidden = F.linear(x.flatten(0, -2), self.down).mul_(self.gain)
        return torch.addmm(y.flatten(0, -2), hidden, self.up.t()).view_as(y)


def low_rank(x: Tensor, down: Tensor, up: Tensor, base: nn.Module, gain: float | Tensor) -> Tensor:
    """Return up(gain * down(x)) with the geometry of the base; gain is a number or one per rank row, [rank]."""
    if isinstance(base, nn.Conv2d):
        padding = base.padding if isinstance(base.padding, str) else tuple(base.padding)
        hidden = F.conv2d(x, down, None, base.stride, padding, base.dilation)
        rows = gain.view(1, -1, 1, 1) if isinstance(gain, Tensor) else gain
        return F.conv2d(hidden * rows, up)
    return F.linear(F.linear(x, down) * gain, up)
