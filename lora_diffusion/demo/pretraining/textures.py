"""Print-like pictures with random parameters, for the VAE alone: it should be able to code a style of yours."""

import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from lora_diffusion.demo.canvas import (
    SIDE,
    Array,
    blur,
    colour,
    contours,
    flatten,
    luma,
    mix,
    plain,
    shifted,
    smoothstep,
)
from lora_diffusion.demo.looks import GROUNDS
from lora_diffusion.demo.scenes import arrange

__all__ = ["textured"]


def textured(rng: Random) -> Array:
    """Return a picture [128, 128, 3] in 0..1 in a random texture, shadow or mixture of colours."""
    return np.clip(rng.choice(_TEXTURES)(arrange(rng).layer, rng), 0, 1)


def _halftone(layer: Array, rng: Random) -> Array:
    """One ink in dots, darker where the icon is."""
    dots = _dots(rng.uniform(5, 11), rng.uniform(0, math.pi / 2))
    ink = smoothstep(np.float32(1.1) - luma(flatten(layer)) - dots, -0.12, 0.12) * layer[..., 3]
    return mix(_ground(rng), _ink(rng), ink)


def _drawing_on_grid(layer: Array, rng: Random) -> Array:
    pitch = rng.randint(8, 26)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    lines = ((x + rng.randrange(pitch)) % pitch == 0) | ((y + rng.randrange(pitch)) % pitch == 0)
    squared = mix(_ground(rng), _ink(rng), lines * np.float32(rng.uniform(0.2, 0.7)))
    return mix(squared, _ink(rng), contours(layer))


def _shadow(layer: Array, rng: Random) -> Array:
    fallen = shifted(blur(layer[..., 3], rng.uniform(0, 4)), rng.randint(-7, 7), rng.randint(-7, 7))
    under = mix(_ground(rng), (0, 0, 0), fallen * np.float32(rng.uniform(0.2, 0.7)))
    return layer[..., :3] + (1 - layer[..., 3:]) * under


def _mixed_colours(layer: Array, rng: Random) -> Array:
    weights = np.asarray([[rng.uniform(-0.3, 1) for _ in range(3)] for _ in range(3)], np.float32)
    mixed: Array = flatten(layer, rng.choice(list(GROUNDS.values()))) @ (weights / np.abs(weights).sum(axis=0))
    return mixed


_TEXTURES: Sequence[Callable[[Array, Random], Array]] = (_halftone, _drawing_on_grid, _shadow, _mixed_colours)


def _ground(rng: Random) -> Array:
    return plain(rng.choice(list(GROUNDS.values())))


def _ink(rng: Random) -> Array:
    return colour(rng.choice(list(GROUNDS.values())))


def _dots(pitch: float, angle: float) -> Array:
    """Return a halftone screen in 0..1; the pitch is in pixels."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) * np.float32(2 * math.pi / pitch)
    across, down = math.cos(angle), math.sin(angle)
    screen: Array = (np.cos(x * across + y * down) + np.cos(y * across - x * down)) / 4 + 0.5
    return screen
