"""Generic looks for pretraining, so that the base model knows that looks exist. None of them is a demo style."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import numpy as np
from PIL import Image

from lora_diffusion.demo.canvas import (
    SIDE,
    Array,
    Colour,
    blur,
    colour,
    contours,
    flatten,
    luma,
    mix,
    plain,
    shifted,
    smoothstep,
    to_image,
)

__all__ = ["GROUNDS", "LOOKS", "Look", "Looked"]

GROUNDS: Mapping[str, Colour] = MappingProxyType(
    {
        "white": (255, 255, 255),
        "black": (18, 18, 20),
        "gray": (150, 152, 156),
        "red": (219, 58, 52),
        "orange": (245, 146, 52),
        "yellow": (250, 214, 74),
        "green": (78, 168, 92),
        "teal": (28, 150, 150),
        "sky blue": (130, 200, 240),
        "blue": (46, 98, 196),
        "navy": (24, 40, 92),
        "purple": (126, 74, 172),
        "pink": (246, 158, 190),
        "brown": (122, 80, 52),
        "beige": (238, 222, 190),
        "mint": (178, 226, 200),
    }
)
"""The colours that captions name."""

_DUOTONES = (
    ("navy", "pink"),
    ("purple", "yellow"),
    ("black", "orange"),
    ("blue", "beige"),
    ("brown", "mint"),
    ("navy", "sky blue"),
    ("red", "white"),
    ("teal", "yellow"),
    ("purple", "mint"),
    ("black", "red"),
)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A layer drawn in a look: picture [128, 128, 3], the words for the look, the name of the ground under it."""

    picture: Array
    words: str
    ground: str


Look = Callable[[Array, str, Random], Looked]
"""From a layer [128, 128, 4], the name of its ground and a source of chance."""


def _line_drawing(layer: Array, ground: str, rng: Random) -> Looked:
    words = rng.choice(["line drawing", "outline drawing", "line art"])
    sheet = plain(GROUNDS[ground])
    ink = "black" if luma(sheet)[0, 0] > 0.45 else "white"
    return Looked(picture=mix(sheet, GROUNDS[ink], contours(layer)), words=words, ground=ground)


def _silhouette(layer: Array, ground: str, rng: Random) -> Looked:
    ink = rng.choice([name for name in GROUNDS if name != ground])
    picture = mix(plain(GROUNDS[ground]), GROUNDS[ink], layer[..., 3])
    return Looked(picture=picture, words=f"{ink} silhouette", ground=ground)


def _grayscale(layer: Array, ground: str, rng: Random) -> Looked:
    words, ground = rng.choice(["grayscale", "black and white"]), rng.choice(["white", "gray", "black"])
    tone = luma(flatten(layer, GROUNDS[ground]))
    return Looked(picture=np.repeat(tone[..., None], 3, axis=-1), words=words, ground=ground)


def _sepia(layer: Array, ground: str, rng: Random) -> Looked:
    tone = luma(flatten(layer, GROUNDS["beige"]))
    picture = mix(plain((61, 40, 26)), GROUNDS["beige"], tone)
    return Looked(picture=picture, words="sepia", ground="beige")


def _pixel_art(layer: Array, ground: str, rng: Random) -> Looked:
    side = rng.choice([24, 32])
    small = to_image(flatten(layer, GROUNDS[ground])).resize((side, side), Image.Resampling.BOX)
    picture = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.NEAREST), np.float32) / np.float32(255)
    return Looked(picture=picture, words="pixel art", ground=ground)


def _pastel(layer: Array, ground: str, rng: Random) -> Looked:
    return Looked(picture=flatten(layer, GROUNDS[ground]) * 0.5 + 0.5, words="pastel", ground=ground)


def _neon(layer: Array, ground: str, rng: Random) -> Looked:
    name = rng.choice(["pink", "sky blue", "green", "yellow", "orange"])
    tube = contours(layer)
    glow = np.clip(blur(tube, 3) * np.float32(1.2), 0, 1) * np.float32(0.7)
    lit = mix(plain(GROUNDS["black"]), GROUNDS[name], glow)
    core = np.clip(colour(GROUNDS[name]) * np.float32(0.6) + np.float32(0.45), 0, 1)
    return Looked(picture=mix(lit, core, tube), words=f"{name} neon", ground="black")


def _flat_colours(layer: Array, ground: str, rng: Random) -> Looked:
    words = rng.choice(["posterized", "flat colors"])
    levels = np.float32(3)
    picture = np.asarray(np.round(flatten(layer, GROUNDS[ground]) * levels) / levels, np.float32)
    return Looked(picture=picture, words=words, ground=ground)


def _duotone(layer: Array, ground: str, rng: Random) -> Looked:
    dark, light = rng.choice(_DUOTONES)
    picture = mix(plain(GROUNDS[dark]), GROUNDS[light], luma(flatten(layer)))
    return Looked(picture=picture, words=f"{dark} and {light} duotone", ground=light)


def _sticker(layer: Array, ground: str, rng: Random) -> Looked:
    body = layer[..., 3]
    border = smoothstep(blur(body, 3.2), 0.06, 0.16)
    shade = shifted(blur(border, 2), 2, 3) * np.float32(0.35)
    under = mix(mix(plain(GROUNDS[ground]), (0, 0, 0), shade), (255, 255, 255), border)
    return Looked(picture=layer[..., :3] + (1 - layer[..., 3:]) * under, words="sticker", ground=ground)


def _negative(layer: Array, ground: str, rng: Random) -> Looked:
    words = rng.choice(["inverted colors", "negative"])
    return Looked(picture=1 - flatten(layer) * np.float32(0.96), words=words, ground="black")


def _blurry(layer: Array, ground: str, rng: Random) -> Looked:
    words = rng.choice(["blurry", "soft focus"])
    return Looked(picture=blur(flatten(layer, GROUNDS[ground]), 2.5), words=words, ground=ground)


LOOKS: Sequence[Look] = (
    *(2 * [_line_drawing, _silhouette, _neon, _duotone]),  # the hardest to learn, so twice as often
    _grayscale,
    _sepia,
    _pixel_art,
    _pastel,
    _flat_colours,
    _sticker,
    _negative,
    _blurry,
)
"""One is drawn from this with equal chances."""
