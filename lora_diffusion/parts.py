"""One adapter of a blend as people write it: PATH:WEIGHT@BLOCK=WEIGHT@PRESET, and what it means for each module."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lora_diffusion.blocks import BLOCKS, PRESETS, holds, levels_of, nearest, require_block, require_preset
from lora_diffusion.errors import TargetError, UsageError

__all__ = ["PartSpec", "Weight", "module_weights", "parse_part", "require_finite"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, kw_only=True)
class PartSpec:
    """What to take of one adapter.

    `source` is a path or a library reference. `weight` holds everywhere, times the factor of the presets; an override
    replaces the result in its block. Where two overrides meet, the longer name wins, of equally long ones the later.
    Raises UsageError for a weight that is not finite or a block or preset that does not exist.
    """

    source: str = ""
    weight: float = 1.0
    overrides: Mapping[str, float] = field(default_factory=dict)
    presets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_finite(self.source or "an adapter", self.weight)
        for block, weight in self.overrides.items():
            require_finite(f"{self.source} in {require_block(block)}", weight)
        for name in self.presets:
            require_preset(name)

    def __str__(self) -> str:
        """Return what `parse_part` reads as this very value."""
        more = [*self.presets, *(f"{block}={weight!r}" for block, weight in self.overrides.items())]
        return "@".join([f"{self.source}:{self.weight!r}", *more])

    @property
    def plain(self) -> bool:
        """Say whether the weight is the same everywhere."""
        return not self.overrides and not self.presets


Weight = float | PartSpec
"""The weight of an adapter: one number, or what `parse_part` returns."""


def parse_part(spec: str) -> PartSpec:
    """Read SOURCE[:WEIGHT][@BLOCK=WEIGHT or @PRESET ...]; without a weight it is 1.

    `style.safetensors:0.8@unet.up=1.2@text=0` is 0.8 everywhere, 1.2 in the up blocks and nothing in the text encoder.
    The colon of a drive letter is no weight and the @ of a library reference (`brand@3`) no option. Raises UsageError
    naming what cannot be read, with the blocks and presets there are.
    """
    words = spec.split("@")
    first = len(words)
    while first > 1 and ("=" in words[first - 1] or words[first - 1] in PRESETS):
        first -= 1
    source, weight = _source("@".join(words[:first]), spec)
    overrides: dict[str, float] = {}
    for word in words[first:]:
        block, sign, number = word.partition("=")
        if sign and block in overrides:
            raise UsageError(f"{spec!r} gives {block} twice", hint="give each block one weight")
        if sign:
            overrides[block] = _number(number, spec)
    return PartSpec(
        source=source,
        weight=weight,
        overrides=overrides,
        presets=tuple(word for word in words[first:] if "=" not in word),
    )


def _source(text: str, spec: str) -> tuple[str, float]:
    source, colon, tail = text.rpartition(":")
    if found := re.fullmatch(rf"(?:(?:{_NUMBER}|.*\.safetensors)@)([^@/\\]+)", tail or text):
        # An option after a weight or a file name; a version of the library has neither before its @.
        raise _unknown_option(found[1], spec)
    if not text or (colon and not source):
        raise UsageError(f"{spec!r} names no adapter", hint="write PATH:WEIGHT, for example style.safetensors:0.8")
    if not colon or (len(source) == 1 and _DRIVE.match(text)):
        return text, 1.0
    if source.endswith(".safetensors") or re.fullmatch(rf"{_NUMBER}|[-+]?(?:inf|nan).*", tail, re.IGNORECASE):
        return source, _number(tail, spec)
    return text, 1.0


def _unknown_option(option: str, spec: str) -> UsageError:
    known = (*PRESETS, *BLOCKS)
    return UsageError(
        f"{spec!r}: {option!r} is no preset, and no BLOCK=WEIGHT",
        hint=f"{nearest(option, known)}presets are {', '.join(PRESETS)}; blocks are {', '.join(BLOCKS)}",
    )


def _number(text: str, spec: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{spec!r}: the weight {text!r} is no number", hint="use one such as 0.8 or -0.3") from None


def require_finite(name: str, weight: float) -> None:
    """Raise UsageError where a weight is no finite number."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UsageError(f"the weight of {name} is {weight!r}", hint="use a number, for example 0.8 or -0.3")


def module_weights(weight: Weight, modules: Iterable[str], *, family: str) -> dict[str, float]:
    """Return the weight of each module of an adapter.

    Raises TargetError for a preset, or an override other than 0, that meets none of the modules.
    """
    names = list(modules)
    if not isinstance(weight, PartSpec):
        return dict.fromkeys(names, float(weight))
    levels = levels_of(names)
    result = dict.fromkeys(names, float(weight.weight))
    for preset in weight.presets:
        result = {name: value * PRESETS[preset].factor(name, family, levels) for name, value in result.items()}
        if names and weight.weight and not any(result.values()):
            raise _nothing_there(weight, preset)
    for block in sorted(weight.overrides, key=lambda each: each.count(".")):  # stable: of equals the later is last
        met = [name for name in names if holds(block, name)]
        if not met and weight.overrides[block]:
            raise _nothing_there(weight, block)
        result.update(dict.fromkeys(met, float(weight.overrides[block])))
    return result


def _nothing_there(spec: PartSpec, where: str) -> TargetError:
    return TargetError(
        f"{spec.source or 'the adapter'} changes nothing in {where}",
        hint="look at its modules with `inspect`, and leave this block out",
    )
