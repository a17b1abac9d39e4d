"""Adapters inside a prompt, as other programs write them: `a cat <lora:style:0.8>`.

One number is the weight everywhere; of two the first is the text encoder's and the second the UNet's (AUTOMATIC1111
stable-diffusion-webui, extensions-builtin/Lora); `te=` and `unet=` say it by name.
"""

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from lora_diffusion.errors import UsageError

__all__ = ["LoraTag", "join_prompt", "split_prompt"]

_TAG = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)
_HINT = "write <lora:name:0.8>, or <lora:name:te=0.5:unet=0.8> for two weights"


class LoraTag(NamedTuple):
    """An adapter named in a prompt. `text` is the weight in text encoders, None where it is the same as `unet`."""

    name: str
    unet: float = 1.0
    text: float | None = None


def split_prompt(text: str) -> tuple[str, list[LoraTag]]:
    """Return the prompt without its adapters, and these in the order of the text; their spaces go with them.

    Raises UsageError naming the tag that cannot be read.
    """
    tags = [_read(found) for found in _TAG.finditer(text)]
    return re.sub(rf"\A{_TAG.pattern} ?| ?{_TAG.pattern}", "", text, flags=re.IGNORECASE), tags


def join_prompt(prompt: str, adapters: Iterable[tuple[str, float, float | None]]) -> str:
    """Return the prompt with the adapters behind it: what `split_prompt` takes apart again.

    Raises UsageError for a name that a tag cannot hold, or a weight that is no finite number.
    """
    tags = [_write(LoraTag(*each)) for each in adapters]
    return " ".join([*([prompt] if prompt else []), *tags])


def _read(found: re.Match[str]) -> LoraTag:
    first, *words = found[1].split(":")
    named = dict(word.partition("=")[::2] for word in words if "=" in word)
    numbers = [word for word in words if "=" not in word]
    if not first or len(numbers) > 2 or named.keys() - {"te", "unet"}:
        raise UsageError(f"{found[0]} cannot be read", hint=_HINT)
    te = _number(named.get("te", (numbers or ["1"])[0]), found[0])
    unet = _number(named["unet"] if "unet" in named else numbers[1], found[0]) if _two(named, numbers) else te
    return LoraTag(first, unet, None if te == unet else te)


def _two(named: dict[str, str], numbers: list[str]) -> bool:
    return "unet" in named or len(numbers) == 2


def _write(tag: LoraTag) -> str:
    if not tag.name or any(sign in tag.name for sign in "<>:\n"):
        raise UsageError(f"an adapter named {tag.name!r} cannot be written into a prompt", hint="give it another name")
    for weight in (tag.unet, tag.text):
        if weight is not None and not math.isfinite(weight):
            raise UsageError(f"the weight of {tag.name} is {weight!r}", hint="use a number, for example 0.8 or -0.3")
    if tag.text is None or tag.text == tag.unet:
        return f"<lora:{tag.name}:{_short(tag.unet)}>"
    return f"<lora:{tag.name}:te={_short(tag.text)}:unet={_short(tag.unet)}>"


def _short(weight: float) -> str:
    """Write a number so that it reads back as the same one: 1.0 as 1."""
    return repr(float(weight)).removesuffix(".0")


def _number(text: str, tag: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{tag}: {text!r} is no weight", hint=_HINT)
    return number
