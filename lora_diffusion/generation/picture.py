"""Pictures that know how they were made: the settings travel inside the PNG and read back."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from datasets_tools.storage import replacing
from lora_diffusion.errors import CorruptFile

__all__ = ["Picture", "Settings", "read_settings"]

_KEY = "lora_diffusion"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a picture.

    `adapters` maps name to weight, `parts` name to what `parse_part` reads where blocks have weights of their own,
    `fingerprints` name to content hash, `schedules` name to what `parse_schedule` reads. `start` is the sha256 of the
    picture that it started from, if any, and `strength` how far it went from there.
    """

    prompt: str
    negative: str = ""
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    base: str
    adapters: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    start: str = ""
    strength: float | None = None

    def as_text(self) -> str:
        """Return the settings as other programs show them: prompt, negative prompt, then a line of pairs."""
        tags = "".join(f" <lora:{name}:{weight:g}>" for name, weight in self.adapters.items())
        negative = f"\nNegative prompt: {self.negative}" if self.negative else ""
        pairs = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "CFG scale": f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": self.base,
        }
        if self.strength is not None:
            pairs["Denoising strength"] = f"{self.strength:g}"
        return f"{self.prompt}{tags}{negative}\n" + ", ".join(f"{key}: {value}" for key, value in pairs.items())


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn picture and its settings."""

    image: Image.Image
    settings: Settings

    def save(self, path: Path) -> Path:
        """Write a PNG with the settings inside; whole or not at all."""
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", self.settings.as_text())
        info.add_itxt(_KEY, json.dumps(asdict(self.settings), ensure_ascii=False, sort_keys=True))
        with replacing(path) as aside:
            self.image.save(aside, format="PNG", pnginfo=info)
        return path


def _checked(settings: Settings) -> Settings:
    """Return settings with each value as what it is declared to be: anybody can write a PNG. Raises ValueError."""
    from pydantic import TypeAdapter

    checked: Settings = TypeAdapter(Settings).validate_python(asdict(settings))
    numbers = [checked.guidance, checked.strength or 0.0, *checked.adapters.values()]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("not finite")
    return checked


def read_settings(path: Path) -> Settings:
    """Return the settings inside a picture of ours. Raises CorruptFile where there are none or they do not parse."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            text = image.info[_KEY]
        found: dict[str, Any] = json.loads(text)
        return _checked(Settings(**found))
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptFile(
            f"{path} holds no settings of a picture made here",
            hint="use the PNG as it was written: other programs strip what is inside when they save it again",
        ) from error
