"""Cut-outs of the icons, taken from a colour font that is looked for on this machine and never shipped."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lora_diffusion.demo.canvas import Array
from lora_diffusion.demo.icons import ICONS
from lora_diffusion.errors import UsageError

__all__ = ["FONT_NAME", "find_font", "sprite"]

FONT_NAME = "NotoColorEmoji.ttf"
STRIKE = 109  # the only bitmap size in the font, in pixels; glyphs come out 136 x 128


def find_font(folders: Sequence[Path] | None = None) -> Path:
    """Return the colour font's file; `folders` replaces the usual font folders of Linux, macOS and Windows.

    Raises UsageError that names the package to install.
    """
    searched = _font_folders() if folders is None else list(folders)
    for file in _candidates(searched):
        return file
    raise UsageError(
        f"{FONT_NAME} was not found in {', '.join(map(str, searched)) or 'any font folder'}",
        hint="on Debian or Ubuntu: apt-get install fonts-noto-color-emoji; elsewhere put the file into a font folder",
    )


def sprite(name: str, side: int) -> Array:
    """Return the icon scaled so that its longer side has `side` pixels: [h, w, 4] in 0..1, colour premultiplied."""
    glyph = _cutout(ICONS[name], _default_font())
    scale = side / max(glyph.size)
    size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    scaled = glyph.convert("RGBa").resize(size, Image.Resampling.LANCZOS)
    return np.asarray(scaled, np.float32) / np.float32(255)


def _font_folders() -> list[Path]:
    home = Path.home()
    data = [Path(each) / "fonts" for each in os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")]
    places = [home / ".local/share/fonts", home / ".fonts", *data, home / "Library/Fonts", Path("/Library/Fonts")]
    windows = os.environ.get("WINDIR")
    return [*places, Path(windows) / "Fonts"] if windows else places


def _candidates(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir():
            yield from sorted(folder.rglob(FONT_NAME))


@lru_cache(maxsize=512)
def _cutout(point: int, font: Path) -> Image.Image:
    """Return the glyph as straight-alpha RGBA without empty borders."""
    canvas = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((20, 20), chr(point), font=_open(font), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise UsageError(
            f"{font} has no glyph for U+{point:04X}", hint="install a newer fonts-noto-color-emoji (2.034 or later)"
        )
    return canvas.crop(box)


@lru_cache(maxsize=1)
def _default_font() -> Path:
    return find_font()


@lru_cache(maxsize=1)
def _open(font: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, STRIKE)
