"""The arithmetic of a merge: one tensor of a base model after the other, with what rounding took from each.

W + sum of w_i * delta_i in fp32, cast once.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, UsageError, VerificationFailed, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import Checkpoint
from lora_diffusion.files.dense import bias_delta, delta
from lora_diffusion.files.precision import PRECISIONS, STRIP, cast, strips
from lora_diffusion.files.readback import digest
from lora_diffusion.files.safe import Excerpt
from lora_diffusion.files.writing import Content
from lora_diffusion.parts import PartSpec, Weight, module_weights, require_finite
from lora_diffusion.scaled import FP8, holds_scaled, is_scaled_layer, scale_of, scaled, unscaled

__all__ = ["MERGE_PRECISIONS", "Folded", "Folding", "folding"]

MERGE_PRECISIONS = (*PRECISIONS, "fp8")
"""What a merged checkpoint can be written in; "fp8" is scaled, see `lora_diffusion.scaled`."""

# Multiplications, of which MKL takes 200,000 on one core. Threads of it wait for each other by spinning: while others
# use the cores, as hashing and writing do here, a product in one piece took 7 to 20 times as long.
_PRODUCTS = 160_000

_OnRemainder = Callable[[str, Tensor, float], None]
_Change = Callable[[slice], Tensor]
"""What is added to some rows of a base weight, fp32 [rows, numbers per row], in memory of its own."""


@dataclass(frozen=True, kw_only=True)
class Folded:
    """An adapter and the weight of each of its modules."""

    adapter: Adapter
    weight: Weight
    at: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return what the merged file says about it."""
        said: dict[str, object] = {"name": self.adapter.name, "fingerprint": self.adapter.fingerprint}
        if not isinstance(self.weight, PartSpec):
            return {**said, "weight": self.weight}
        blocks, presets = dict(self.weight.overrides), list(self.weight.presets)
        more = {"overrides": blocks, "presets": presets}
        return {**said, "weight": self.weight.weight, **{key: value for key, value in more.items() if value}}


@dataclass(kw_only=True)
class Folding:
    """What one merge knows; `losses` and `digests` fill up while tensors pass by.

    `losses` holds (norm of what rounding took, norm of the delta) by module, and by `<module>.bias` where an adapter
    changes one; `digests` the SHA-256 of the numbers of each tensor that an adapter changes, by its key.
    `on_remainder` is told each weight's exact minus stored values and the norm of its delta.
    """

    checkpoint: Checkpoint
    parts: Sequence[Folded]
    precision: str | None
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)
    on_remainder: _OnRemainder | None = None

    def touching(self, module: str) -> list[tuple[Weights, float]]:
        """Return what the adapters add at a module, without those whose weight is 0 there."""
        return [(part.adapter.modules[module], part.at[module]) for part in self.parts if part.at.get(module)]

    def is_scaled(self, key: str) -> bool:
        return self.precision == "fp8" and is_scaled_layer(key, self.checkpoint.tensors[key].shape)

    def dtype_of(self, key: str) -> torch.dtype:
        """Return the dtype that a tensor is written in. The VAE stays as found: SDXL's overflows in fp16."""
        found = self.checkpoint.tensors[key].dtype
        if self.precision is None or key.startswith("vae.") or not found.is_floating_point:
            return found
        if self.precision != "fp8":
            return PRECISIONS[self.precision]
        return FP8 if self.is_scaled(key) else torch.float16

    def size(self, key: str) -> int:
        return torch.Size(self.checkpoint.tensors[key].shape).numel() * self.dtype_of(key).itemsize

    def scale(self, key: str) -> Tensor:
        """Return the scale that a scaled tensor is stored with, an fp32 scalar."""
        if key not in self.scales:
            base = self.checkpoint.tensor(key)
            change = self._change(key, base)
            self.scales[key] = scale_of(base if change is None else _sum(base, change))
        return self.scales[key]

    def changes(self, key: str) -> bool:
        """Say whether a tensor becomes another one, and not just one of another dtype."""
        return self.is_scaled(key) or bool(self._touching(key))

    def content(self, key: str) -> Content:
        """Return a tensor that no adapter changes as it lies in its file, or cast, piece by piece."""
        stored = self.checkpoint.tensors[key]
        if stored.dtype == self.dtype_of(key):
            return Excerpt(file=stored.file, entry=stored.file.entries[stored.key])
        return (cast(piece, self.dtype_of(key), name=key) for piece in stored.file.pieces(stored.key))

    def tensor(self, key: str) -> Tensor:
        """Return a tensor of the merged checkpoint by its canonical key; one that no adapter touches stays bit-equal
        where its dtype stays."""
        base = self.checkpoint.tensor(key)
        scale, dtype = self.scale(key) if self.is_scaled(key) else None, self.dtype_of(key)
        if (change := self._change(key, base)) is None:
            return cast(base, dtype, name=key) if scale is None else _scaled(base, scale)
        wants_rest = self.on_remainder is not None and key.endswith(".weight") and base.ndim > 1
        rest = torch.empty(base.shape) if wants_rest else None
        result, lost, size = _fold(base, change, dtype, scale, rest)
        if not (math.isfinite(lost) and math.isfinite(size)):
            _require_finite(base, _sum(base, change), dtype if scale is None else torch.float32, name=key)
        module = key.removesuffix(".weight")
        self.losses[module], self.digests[key] = (lost, size), digest(result)
        if self.on_remainder is not None and rest is not None:
            self.on_remainder(module, rest, size)
        return result

    def _touching(self, key: str) -> list[tuple[Weights, float]]:
        module, _, kind = key.rpartition(".")
        touching = self.touching(module) if kind in ("weight", "bias") else []
        return [each for each in touching if kind == "weight" or bias_delta(each[0]) is not None]

    def _change(self, key: str, base: Tensor) -> _Change | None:
        """Return the fp32 sum of what the adapters add, or None where none does."""
        kind = _bias_change if key.endswith(".bias") else _weight_change
        changes = [kind(weights, weight, base) for weights, weight in self._touching(key)]
        return partial(_added, changes) if changes else None


def _weight_change(weights: Weights, weight: float, base: Tensor) -> _Change:
    """Return weight * delta. A product of thin factors is made where it is needed: sooner than memory gives it."""
    if weights.method == "lora" and not weights.extra.keys() & {"mid", "dora_scale"}:
        up, down = weights.up.float().flatten(1), weights.down.float().flatten(1)
        if 2 * down.numel() <= _PRODUCTS:  # of two rows and more, each has the bits of the product in one piece
            return lambda rows: _product(up[rows], down).mul_(weights.scale).mul_(weight)
    dense = delta(weights, base).reshape(len(base), -1)
    return lambda rows: dense[rows] * weight


def _product(up: Tensor, down: Tensor) -> Tensor:
    """Return up @ down, by so few rows at a time that the library for matrices starts no threads of its own."""
    result = torch.empty(len(up), down.shape[1])
    pieces = max(1, math.ceil(result.numel() * down.shape[0] / _PRODUCTS))
    for some, into in zip(torch.tensor_split(up, pieces), torch.tensor_split(result, pieces), strict=True):
        torch.mm(some, down, out=into)
    return result


def _bias_change(weights: Weights, weight: float, base: Tensor) -> _Change:
    bias = bias_delta(weights)
    assert bias is not None
    dense = bias.reshape(len(base), -1)
    return lambda rows: dense[rows] * weight


def _added(changes: Sequence[_Change], rows: slice) -> Tensor:
    total = changes[0](rows)
    for change in changes[1:]:
        total += change(rows)
    return total


def _blocks(base: Tensor) -> Iterator[slice]:
    """Yield rows of a tensor in blocks that stay in the cache."""
    rows = max(1, STRIP * len(base) // max(base.numel(), 1))
    return (slice(start, start + rows) for start in range(0, len(base), rows))


def _sum(base: Tensor, change: _Change) -> Tensor:
    """Return base + change in fp32."""
    result, old = torch.empty(base.shape), base.reshape(len(base), -1)
    for rows in _blocks(base):
        torch.add(change(rows), old[rows].float(), out=result.view(old.shape)[rows])
    return result


def _fold(
    base: Tensor, change: _Change, dtype: torch.dtype, scale: Tensor | None, rest: Tensor | None
) -> tuple[Tensor, float, float]:
    """Return base + change in `dtype`, and the norms of what rounding took and of what was added.

    One pass; what rounding took also goes into `rest` where that is given. Where that is wanted or the result is fp32,
    it is compared with a sum in float64; elsewhere the rounding of the fp32 sum is a thousandth of what the cast takes.
    """
    result, lost, size = torch.empty(base.shape, dtype=dtype), 0.0, 0.0
    old, stored = (each.reshape(len(base), -1) for each in (base, result))
    for rows in _blocks(base):
        more, new = change(rows), stored[rows]
        whole = more + old[rows].float()
        new.copy_(whole if scale is None else scaled(whole, scale))
        held = new.float() if scale is None else unscaled(new, scale)
        exact = dtype == torch.float32 or rest is not None
        taken = more.double().add_(old[rows]).sub_(held) if exact else whole.sub_(held)
        lost, size = lost + _square(taken), size + _square(more)
        if rest is not None:
            rest.view(old.shape)[rows] = taken
    return result, math.sqrt(lost), math.sqrt(size)


def _scaled(base: Tensor, scale: Tensor) -> Tensor:
    result = torch.empty_like(base, dtype=FP8)
    for stored, strip in strips(result, base.contiguous()):
        stored.copy_(scaled(strip, scale))
    return result


def _require_finite(base: Tensor, whole: Tensor, dtype: torch.dtype, *, name: str) -> None:
    """Raise VerificationFailed unless a sum is finite in fp32 and in `dtype`, or the base is not."""
    if not torch.isfinite(whole).all() and torch.isfinite(base).all():
        raise VerificationFailed(
            f"{name} becomes infinite with these adapters and weights", hint="lower the weights; 0 to 1 is usual"
        )
    cast(whole, dtype, name=name)


def _square(block: Tensor) -> float:
    """Return the sum of the squares; of fp32 numbers in fp32, a quarter of the time, unless these leave its range."""
    found = float(torch.linalg.vector_norm(block)) ** 2
    return found if 1e-30 < found < 1e37 else float(torch.linalg.vector_norm(block, dtype=torch.float64)) ** 2


def folding(checkpoint: Checkpoint, adapters: Sequence[tuple[Adapter, Weight]], precision: str | None) -> Folding:
    """Return a merge that has been checked, in an order of the content.

    Raises UsageError for a precision or weight that is not possible or a base whose weights are scaled, WrongFamily or
    TargetError naming the first target that does not fit.
    """
    if precision is not None and precision not in MERGE_PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}", hint=f"use one of {', '.join(MERGE_PRECISIONS)}")
    if holds_scaled([each.key for each in checkpoint.tensors.values()], checkpoint.metadata):
        raise UsageError(
            f"{checkpoint.path.name} holds scaled 8-bit weights, which have lost too much to merge into",
            hint="merge into the 16- or 32-bit checkpoint that it was made of",
        )
    parts = []
    for adapter, weight in adapters:
        _check_family(adapter, checkpoint)
        if not isinstance(weight, PartSpec):
            require_finite(adapter.name, weight)
        for module in adapter.modules:
            _check_target(adapter, module, checkpoint)
        at = module_weights(weight, adapter.modules, family=adapter.family)
        parts.append(Folded(adapter=adapter, weight=weight, at=at))
    parts.sort(key=lambda each: (each.adapter.fingerprint, sorted(each.at.items()), each.adapter.name))
    return Folding(checkpoint=checkpoint, parts=parts, precision=precision)


def _check_family(adapter: Adapter, checkpoint: Checkpoint) -> None:
    if adapter.family != checkpoint.family:
        raise WrongFamily(
            f"adapter {adapter.name} is for {adapter.family}, the base model is {checkpoint.family}",
            hint="merge it into a base model of its own family",
        )


def _check_target(adapter: Adapter, module: str, checkpoint: Checkpoint) -> None:
    weights = adapter.modules[module]
    wanted = [f"{module}.weight"] + ([f"{module}.bias"] if "bias" in weights.extra else [])
    for key in wanted:
        if key not in checkpoint.tensors:
            raise TargetError(
                f"adapter {adapter.name} changes {key.removesuffix('.weight')}, "
                f"which {checkpoint.path.name} does not have",
                hint="it was trained on a base model of another shape",
            )
    stored = checkpoint.tensors[wanted[0]].shape
    if (weights.shape[0], torch.Size(weights.shape).numel()) != (stored[0], torch.Size(stored).numel()):
        raise TargetError(
            f"adapter {adapter.name} does not fit {module}: {tuple(weights.shape)}, the base model has {tuple(stored)}",
            hint="it was trained on a base model of another size",
        )
