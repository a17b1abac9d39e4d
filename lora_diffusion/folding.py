"""The arithmetic of a merge: one tensor of a base model after the other, with what rounding took from each.

W + sum of w_i * delta_i in fp32, cast once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, UsageError, VerificationFailed, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import Checkpoint
from lora_diffusion.files.dense import bias_delta, delta
from lora_diffusion.files.precision import PRECISIONS, cast
from lora_diffusion.parts import PartSpec, Weight, module_weights, require_finite
from lora_diffusion.scaled import FP8, holds_scaled, is_scaled_layer, scale_of, scaled, unscaled

__all__ = ["MERGE_PRECISIONS", "Folded", "Folding", "folding"]

MERGE_PRECISIONS = (*PRECISIONS, "fp8")
"""What a merged checkpoint can be written in; "fp8" is scaled, see `lora_diffusion.scaled`."""

_OnRemainder = Callable[[str, Tensor, float], None]


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
    """What one merge knows; `losses` fills up while tensors pass by.

    `losses` holds (norm of what rounding took, norm of the delta) by module, and by `<module>.bias` where an adapter
    changes one. `on_remainder` is told each weight's exact minus stored values and the norm of its delta.
    """

    checkpoint: Checkpoint
    parts: Sequence[Folded]
    precision: str | None
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
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
        exact = self._exact(key)
        return scale_of(self.checkpoint.tensor(key) if exact is None else exact[0])

    def tensor(self, key: str) -> Tensor:
        """Return a tensor of the merged checkpoint by its canonical key; one that no adapter touches stays bit-equal
        where its dtype stays."""
        exact = self._exact(key)
        if exact is None:
            tensor = self.checkpoint.tensor(key)
            return scaled(tensor) if self.is_scaled(key) else cast(tensor, self.dtype_of(key), name=key)
        whole, size = exact
        if self.is_scaled(key):
            result = scaled(whole)
            remainder = whole - unscaled(result, scale_of(whole))
        else:
            result = cast(whole, self.dtype_of(key), name=key)
            remainder = whole - result.float()
        self.losses[key.removesuffix(".weight")] = _norm(remainder), size
        if self.on_remainder is not None and key.endswith(".weight") and whole.ndim > 1:
            self.on_remainder(key.removesuffix(".weight"), remainder, size)
        return result

    def _exact(self, key: str) -> tuple[Tensor, float] | None:
        """Return the fp32 sum and the norm of what is added, or None where nothing is."""
        module, _, kind = key.rpartition(".")
        touching = self.touching(module) if kind in ("weight", "bias") else []
        if kind == "bias":
            touching = [each for each in touching if bias_delta(each[0]) is not None]
        if not touching:
            return None
        base = self.checkpoint.tensor(key)
        added: Tensor | None = None
        for weights, weight in touching:
            change = bias_delta(weights) if kind == "bias" else delta(weights, base)
            assert change is not None
            change = change.reshape(base.shape) * weight
            added = change if added is None else added.add_(change)
        assert added is not None
        size = _norm(added)
        whole = added.add_(base.float())
        if not torch.isfinite(whole).all() and torch.isfinite(base).all():
            raise VerificationFailed(
                f"{key} becomes infinite with these adapters and weights", hint="lower the weights; 0 to 1 is usual"
            )
        return whole, size


def _norm(tensor: Tensor) -> float:
    """Return the Frobenius norm; sums of squares of fp32 numbers in blocks, in float64 across them."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


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
