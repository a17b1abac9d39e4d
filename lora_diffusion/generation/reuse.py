"""Settings to draw with again, out of a PNG that was made here or by another program.

Others write one text named `parameters`: prompt, `Negative prompt: ...`, and a last line of pairs (AUTOMATIC1111
stable-diffusion-webui, modules/infotext_utils). Pictures come from anywhere: nothing in them is trusted to be in range.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from PIL import Image

from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.generation.picture import Settings, read_settings
from lora_diffusion.generation.prompt_text import split_prompt
from lora_diffusion.generation.samplers import find_sampler

__all__ = ["Reusable", "parse_parameters", "reusable_settings"]

MAX_TEXT = 100_000
"""Characters; the longest prompts that programs take are a tenth of it."""

_KEY = "parameters"
_NEGATIVE = "Negative prompt:"
_PIECE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
"""What lies between commas; quoted text keeps its own."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Reusable:
    """What a picture tells about how to draw it again; None and "" are what it does not tell.

    `prompt` names no adapters: `adapters` holds their weights by name, `text_weights` those of text encoders where they
    differ, `parts` and `schedules` are as in `Settings`. `sampler` is a name of `find_sampler`. `began` says that it
    started from another picture, which is not inside it; `notes` say what else could not be taken over.
    """

    prompt: str
    negative: str = ""
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    sampler: str = ""
    strength: float | None = None
    began: bool = False
    base: str = ""
    adapters: Mapping[str, float] = field(default_factory=dict)
    text_weights: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    made_here: bool = False
    notes: tuple[str, ...] = ()


def reusable_settings(path: Path) -> Reusable:
    """Return the settings inside a PNG. Raises CorruptFile where there are none."""
    try:
        return _ours(read_settings(path))
    except CorruptFile:
        return parse_parameters(_text(path))


def parse_parameters(text: str) -> Reusable:
    """Read what other programs write beside a picture. Whatever is missing, or cannot be, is left out with a note."""
    *lines, last = text[:MAX_TEXT].strip().split("\n")
    pairs = _pairs(last)
    if len(pairs) < 3:  # a prompt alone
        lines, pairs = [*lines, last], {}
    whole = "\n".join(lines)
    prompt, _, negative = whole.partition(_NEGATIVE)
    notes: list[str] = []
    found = _Pairs(pairs, notes)
    prompt, adapters, text_weights = _adapters(prompt.strip(), notes)
    width, height = found.size()
    strength = found.number("Denoising strength", float, 0.0, 1.0) or None
    return Reusable(
        prompt=prompt,
        negative=negative.strip(),
        seed=found.number("Seed", int, 0, 2**63 - 1),
        width=width,
        height=height,
        steps=found.number("Steps", int, 1, 1000),
        guidance=found.number("CFG scale", float, 0.0, 100.0),
        sampler=found.sampler(),
        strength=strength,
        began=strength is not None,
        base=pairs.get("Model", ""),
        adapters=adapters,
        text_weights=text_weights,
        notes=tuple(notes),
    )


def _ours(settings: Settings) -> Reusable:
    return Reusable(
        prompt=settings.prompt,
        negative=settings.negative,
        seed=settings.seed,
        width=settings.width,
        height=settings.height,
        steps=settings.steps,
        guidance=settings.guidance,
        sampler=_known(settings.sampler),
        strength=settings.strength,
        began=bool(settings.start),
        base=settings.base,
        adapters=settings.adapters,
        parts=settings.parts,
        schedules=settings.schedules,
        fingerprints=settings.fingerprints,
        made_here=True,
    )


def _text(path: Path) -> str:
    try:
        with Image.open(path, formats=("PNG",)) as image:  # not loaded: the text stands before the pixels
            text = image.info[_KEY]
    except (OSError, KeyError, ValueError, Image.DecompressionBombError) as error:
        raise CorruptFile(
            f"{path} holds no settings of a picture",
            hint="use the PNG as it was written: other programs strip what is inside when they save it again",
        ) from error
    return str(text)


def _pairs(line: str) -> dict[str, str]:
    pieces = (piece.partition(":") for piece in _PIECE.findall(line))
    return {key.strip(): value.strip().strip('"') for key, sign, value in pieces if sign and len(key) <= 60}


def _adapters(prompt: str, notes: list[str]) -> tuple[str, dict[str, float], dict[str, float]]:
    try:
        prompt, tags = split_prompt(prompt)
    except UsageError as error:
        notes.append(f"{error}; the adapters stay in the prompt")
        return prompt, {}, {}
    return (
        prompt.strip(),
        {tag.name: tag.unet for tag in tags},
        {tag.name: tag.text for tag in tags if tag.text is not None},
    )


def _known(title: str) -> str:
    """Return the name of a sampler, or nothing: then the base's own is taken."""
    try:
        return find_sampler(title).name
    except UsageError:
        return ""


class _Pairs:
    """The pairs of the last line, read with limits; what breaks them becomes a note."""

    def __init__(self, pairs: Mapping[str, str], notes: list[str]) -> None:
        self._pairs, self._notes = pairs, notes

    def number(self, key: str, kind: Callable[[str], T], low: float, high: float) -> T | None:
        text = self._pairs.get(key)
        if text is None:
            return None
        try:
            value = kind(text[:40])
        except ValueError:
            value = None
        if value is None or not (math.isfinite(value) and low <= value <= high):  # type: ignore[arg-type,operator]
            self._notes.append(f"{key}: {text[:40]} is left out")
            return None
        return value

    def size(self) -> tuple[int | None, int | None]:
        text = self._pairs.get("Size", "")
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
        sides = [int(side) // 8 * 8 for side in found.groups()] if found else []
        if sides and all(8 <= side <= 4096 for side in sides):
            return sides[0], sides[1]
        if text:
            self._notes.append(f"Size: {text[:40]} is left out")
        return None, None

    def sampler(self) -> str:
        title, schedule = self._pairs.get("Sampler", ""), self._pairs.get("Schedule type", "")
        if schedule == "Automatic" and title == "DPM++ 2M":  # what it means there
            schedule = "Karras"
        name = _known(f"{title} {schedule}".strip()) or _known(title)
        if title and not name:
            self._notes.append(f"the sampler {title[:40]} is not known here")
        return name
