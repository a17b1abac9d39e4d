"""Put adapters into a model, and take them out again exactly."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from lora_diffusion.adapters.layer import Adapted, AdapterLayer
from lora_diffusion.adapters.methods import layer_of, method
from lora_diffusion.adapters.spec import AdapterSpec, Weights
from lora_diffusion.errors import TargetError, WrongFamily
from lora_diffusion.seeds import generator

__all__ = ["Slot", "eject", "inject", "injected", "load", "set_weights", "trained_weights"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place in a model that can take an adapter: `getattr(parent, attribute)` is the module there."""

    parent: nn.Module
    attribute: str

    @property
    def module(self) -> nn.Module:
        found = getattr(self.parent, self.attribute)
        assert isinstance(found, nn.Module)
        return found

    @property
    def base(self) -> nn.Module:
        """The frozen module, with or without adapters around it."""
        return self.module.base if isinstance(self.module, Adapted) else self.module

    def put(self, module: nn.Module) -> None:
        setattr(self.parent, self.attribute, module)


Slots = Mapping[str, Slot]


def inject(
    slots: Slots, spec: AdapterSpec, *, name: str, target_sets: Mapping[str, tuple[str, ...]], seed: int = 0
) -> list[str]:
    """Wrap every target of the spec with a fresh adapter at weight 1 and return their canonical names.

    `slots` maps canonical names to places (`Family.slots`), `target_sets` names to patterns (`Family.targets`).
    Checks everything first: on TargetError nothing has changed.
    """
    ranks = choose_targets(slots, spec, target_sets)
    layer_class = method(spec.method)
    layers = {}
    for target, rank in ranks.items():
        base = _check(slots[target].base, target, rank, layer_class, name, slots)
        layers[target] = layer_class.create(
            base,
            rank=rank,
            alpha=spec.alpha or float(rank),
            dropout=spec.dropout,
            generator=generator(seed, target, "initial"),
        )
    _put(slots, layers, name, 1.0)
    return list(layers)


def load(slots: Slots, modules: Mapping[str, Weights], *, name: str, weight: float = 1.0) -> None:
    """Put trained weights in under a name. Every one must find its place; on error nothing has changed.

    Raises WrongFamily naming the first target that the model lacks or whose shape differs.
    """
    layers = {}
    for target, weights in modules.items():
        if target not in slots:
            raise WrongFamily(
                f"{name} holds {target}, which this base model does not have",
                hint="use the adapter with the kind of base model that it was trained on",
            )
        _check_name(slots[target].module, target, name)
        try:
            layers[target] = layer_of(weights, slots[target].base)
        except ValueError as error:
            raise WrongFamily(
                f"{name} does not fit this base model at {target}: {error}",
                hint="use the adapter with the kind of base model that it was trained on",
            ) from error
    _put(slots, layers, name, weight)


def eject(slots: Slots, name: str | None = None) -> None:
    """Undo inject or load of one adapter, or of all: the very same base modules return."""
    for slot in slots.values():
        adapted = slot.module
        if not isinstance(adapted, Adapted):
            continue
        for each in [name] if name else list(adapted.names):
            if each in adapted.names:
                adapted.remove(each)
        if not adapted.names:
            slot.put(adapted.base)


@contextmanager
def injected(slots: Slots, modules: Mapping[str, Weights], *, name: str, weight: float = 1.0) -> Iterator[None]:
    """Load an adapter for the length of a block."""
    load(slots, modules, name=name, weight=weight)
    try:
        yield
    finally:
        eject(slots, name)


def set_weights(slots: Slots, weights: Mapping[str, float]) -> None:
    """Set the weight of adapters by name, in place."""
    for slot in slots.values():
        adapted = slot.module
        if isinstance(adapted, Adapted):
            adapted.set_weights(weights)


def trained_weights(slots: Slots, name: str) -> dict[str, Weights]:
    """Return a copy of an adapter's tensors by canonical name."""
    return {
        target: slot.module.layer(name).weights()
        for target, slot in slots.items()
        if isinstance(slot.module, Adapted) and name in slot.module.names
    }


def choose_targets(slots: Slots, spec: AdapterSpec, target_sets: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the rank of every target that the spec names, in the model's order."""
    chosen: dict[str, int] = {}
    for wanted in spec.targets:
        found = _matching(slots, wanted, target_sets)
        if not found:
            raise _unknown_target(wanted, slots, target_sets)
        chosen.update(dict.fromkeys(found, spec.rank))
    for wanted, rank in spec.ranks.items():
        found = [target for target in _matching(slots, wanted, target_sets) if target in chosen]
        if not found:
            raise _unknown_target(wanted, slots, target_sets)
        chosen.update(dict.fromkeys(found, rank))
    return {target: chosen[target] for target in slots if target in chosen}


def _matching(slots: Slots, wanted: str, target_sets: Mapping[str, tuple[str, ...]]) -> list[str]:
    patterns = target_sets.get(wanted, (wanted,))
    return [target for target in slots if any(fnmatchcase(target, pattern) for pattern in patterns)]


def _unknown_target(wanted: str, slots: Slots, target_sets: Mapping[str, tuple[str, ...]]) -> TargetError:
    nearest = difflib.get_close_matches(wanted, [*target_sets, *slots], n=1, cutoff=0.5)
    meant = f"did you mean {nearest[0]!r}? " if nearest else ""
    return TargetError(
        f"target {wanted!r} matches no module that is being trained",
        hint=f"{meant}target sets: {', '.join(target_sets)}; patterns use canonical names such as {next(iter(slots))}",
    )


def _check(
    base: nn.Module, target: str, rank: int, layer_class: type[AdapterLayer], name: str, slots: Slots
) -> nn.Module:
    _check_name(slots[target].module, target, name)
    if not layer_class.supports(base):
        raise TargetError(
            f"{layer_class.method} cannot be put on {target}, a {type(base).__name__}",
            hint="leave this module out of adapter.targets",
        )
    weight = base.weight
    assert isinstance(weight, Tensor)
    smaller = min(weight.shape[0], weight[0].numel())
    if rank > smaller:
        raise TargetError(f"rank {rank} exceeds {smaller}, the smaller side of {target}", hint="lower adapter.rank")
    return base


def _check_name(module: nn.Module, target: str, name: str) -> None:
    if isinstance(module, Adapted) and name in module.names:
        raise TargetError(
            f"{target} already has an adapter named {name!r}", hint="eject it first or choose another name"
        )


def _put(slots: Slots, layers: Mapping[str, AdapterLayer], name: str, weight: float) -> None:
    for target, layer in layers.items():
        slot = slots[target]
        adapted = slot.module if isinstance(slot.module, Adapted) else Adapted(slot.module)
        adapted.add(name, layer, weight)
        slot.put(adapted)
