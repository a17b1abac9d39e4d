"""The three demo styles, which the base model has never seen: they play the part of a brand's artwork.

Nothing in them is finer than it must be: the base model's latents are 8 pixels wide, and a grid or halftone dots below
that would be lost. `python -m lora_diffusion.demo.restyle --out DIR` draws the pictures of `demo/styles/` again.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from lora_diffusion.demo.canvas import (
    SIDE,
    Array,
    Colour,
    blank,
    blur,
    contours,
    flatten,
    luma,
    mix,
    paste,
    plain,
    shifted,
    smoothstep,
    to_image,
)
from lora_diffusion.demo.glyphs import sprite
from lora_diffusion.demo.icons import STYLE_SET, phrase

__all__ = ["STYLES", "Style", "blueprint", "papercut", "restyled", "twoink", "unstyled", "write_styles"]

Style = Callable[[Array], Array]
"""From a layer [128, 128, 4] with premultiplied colour to a picture [128, 128, 3], both in 0..1."""

ICON_SIDE = 100  # pixels of the longer side, as the base model has mostly seen them

_PAPERS: Sequence[Colour] = ((58, 62, 84), (178, 84, 62), (222, 158, 82), (252, 244, 228))
"""From dark to light. The tone alone decides: that is learned faster than a palette chosen by hue."""


def blueprint(layer: Array) -> Array:
    """Draw white contours and a pale blue body on a deep blue ground."""
    body = mix(plain((20, 62, 146)), (70, 124, 204), layer[..., 3])
    return mix(body, (244, 249, 255), contours(layer))


def papercut(layer: Array) -> Array:
    """Cut the icon from four earthen papers by its tones, with a soft shadow on a cream ground."""
    body = smoothstep(layer[..., 3], 0.3, 0.7)
    shadow = shifted(blur(body, 2.4), 5, 6) * np.float32(0.5)
    ground = mix(plain((240, 220, 182)), (70, 52, 40), shadow)
    tone = luma(blur(flatten(layer), 1.2))
    cut = plain(_PAPERS[0])
    for edge, paper in zip((0.35, 0.54, 0.86), _PAPERS[1:], strict=True):
        cut = mix(cut, paper, smoothstep(tone, edge - 0.03, edge + 0.03))
    return mix(ground, cut, body)


def twoink(layer: Array) -> Array:
    """Print in two flat inks on warm paper: coral bodies, blue lines and dark parts, bare where it is light."""
    body = smoothstep(layer[..., 3], 0.4, 0.6)
    tone = luma(blur(flatten(layer), 1.0))
    coral = smoothstep(np.float32(1) - tone, 0.10, 0.16) * body
    dark = smoothstep(np.float32(1) - tone, 0.62, 0.68) * body
    blue = np.maximum(dark, contours(layer, 0.25, 0.45))
    return mix(mix(plain((246, 234, 192)), (244, 112, 92), coral), (34, 70, 140), blue)


STYLES: Mapping[str, Style] = MappingProxyType({"blueprint": blueprint, "papercut": papercut, "twoink": twoink})


def unstyled(name: str) -> Image.Image:
    """Return the plain icon on white, 128 x 128."""
    return to_image(flatten(_single(name)))


def restyled(name: str, style: str) -> Image.Image:
    """Return the icon in one of STYLES, 128 x 128: what an adapter of that style should draw for it."""
    return to_image(STYLES[style](_single(name)))


def write_styles(out: Path) -> None:
    """Write the pictures and captions of every style; captions name the content and leave the style out."""
    for style in STYLES:
        folder = out / style
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(STYLE_SET, 1):
            stem = f"{number:02d}_{name.replace(' ', '_')}"
            restyled(name, style).save(folder / f"{stem}.png", optimize=True)
            (folder / f"{stem}.txt").write_text(phrase(name) + "\n", encoding="utf-8")


def _single(name: str) -> Array:
    layer = blank()
    paste(layer, sprite(name, ICON_SIDE), SIDE / 2, SIDE / 2)
    return layer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_diffusion.demo.restyle", description="Draw the demo styles.")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder of pictures per style")
    write_styles(parser.parse_args().out)


if __name__ == "__main__":
    main()
