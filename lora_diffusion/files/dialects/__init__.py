"""Naming conventions of adapter files, one module each; a new file here is a new dialect."""

import importlib
import pkgutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, cast

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UnknownDialect, UsageError
from lora_diffusion.files.foreign import foreign, refusal

__all__ = ["Dialect", "Parts", "Pieces", "dialect", "dialects", "recognise"]

Pieces = Mapping[str, Tensor]
"""The tensors of one module by role: "down", "up", "alpha" (0-D), "dora_scale", and those of `files.roles`."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a dialect finds in a file, before anything is demanded of it.

    `pieces` by canonical module name; `unplaced` are keys without a place, in the order of the file; `repairs` say one
    line each what reading mended.
    """

    pieces: Mapping[str, Pieces]
    unplaced: tuple[str, ...] = ()
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()


class Dialect(Protocol):
    """A module of this package.

    `structural` names the metadata keys that belong to the convention itself: they are not carried into other files.
    `methods` are those that it has names for; `writable` is False where the dialect exists only in old files. `write`
    returns tensors and metadata.
    """

    name: str
    writable: bool
    methods: tuple[str, ...]
    structural: tuple[str, ...]

    def matches(self, keys: Collection[str], metadata: Mapping[str, str]) -> bool: ...

    def read(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts: ...

    def write(self, modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]: ...


@cache
def dialects() -> Mapping[str, Dialect]:
    """Return every dialect by name, sorted."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            each = cast(Dialect, importlib.import_module(f"{__name__}.{module.name}"))
            found[each.name] = each
    return dict(sorted(found.items()))


def dialect(name: str) -> Dialect:
    """Return a dialect by name. Raises UsageError listing the ones there are."""
    if name not in dialects():
        raise UsageError(f"unknown dialect {name!r}", hint=f"use one of {', '.join(dialects())}")
    return dialects()[name]


def recognise(keys: Collection[str], metadata: Mapping[str, str], *, source: str = "") -> Dialect:
    """Return the dialect that claims most of these keys. Raises UnknownDialect showing the first keys of `source`."""
    claims = [each for each in dialects().values() if each.matches(keys, metadata)]
    if len(claims) == 1:
        return claims[0]
    if claims:
        return max(claims, key=lambda each: sum(each.matches([key], metadata) for key in keys))
    start = f"{source}: " if source else ""
    if kind := foreign(keys):
        said, hint = refusal(kind)
        first = next(key for key in keys if foreign((key,)) == kind)
        raise UnknownDialect(f"{start}{said}; the first of its names is {first!r}", hint=hint)
    shown = ", ".join(repr(key) for key in sorted(keys)[:3]) or "no tensors at all"
    raise UnknownDialect(
        f"{start}no adapter dialect has such names: {shown}",
        hint=f"known dialects are {', '.join(dialects())}; "
        "a full base model is a checkpoint, a textual inversion an embedding",
    )
