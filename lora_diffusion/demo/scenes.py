"""Captioned scenes for pretraining: which icons, how many, how large, where, on which ground and in which look."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

import numpy as np

from lora_diffusion.demo.canvas import SIDE, Array, blank, flatten, paste
from lora_diffusion.demo.glyphs import sprite
from lora_diffusion.demo.icons import ICONS, article
from lora_diffusion.demo.looks import GROUNDS, LOOKS, Looked

__all__ = ["Arrangement", "Scene", "arrange", "random_scene"]

MIDDLE = SIDE / 2
LEFT, RIGHT = 33, 95  # centres of two icons side by side

PLACES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "in the top left corner": (-1, -1),
        "in the top right corner": (1, -1),
        "in the bottom left corner": (-1, 1),
        "in the bottom right corner": (1, 1),
        "on the left": (-1, 0),
        "on the right": (1, 0),
        "at the top": (0, -1),
        "at the bottom": (0, 1),
    }
)

_SPOTS: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType(
    {
        "two": ((LEFT, 64), (RIGHT, 64)),
        "three": ((64, 34), (LEFT, 94), (RIGHT, 94)),
        "four": ((LEFT, LEFT), (RIGHT, LEFT), (LEFT, RIGHT), (RIGHT, RIGHT)),
    }
)


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Icons on an empty layer [128, 128, 4], and the words for them; several take no article."""

    layer: Array
    noun: str
    place: str = ""
    several: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture [128, 128, 3] in 0..1 and what it shows."""

    picture: Array
    caption: str


def random_scene(rng: Random, *, looks: float) -> Scene:
    """Draw a scene; `looks` is the share that gets a generic look."""
    arrangement = arrange(rng)
    ground = "white" if rng.random() < 0.45 else rng.choice(list(GROUNDS))
    if rng.random() < looks:
        looked = rng.choice(LOOKS)(arrangement.layer, ground, rng)
    else:
        looked = Looked(picture=flatten(arrangement.layer, GROUNDS[ground]), words="", ground=ground)
    return Scene(picture=np.clip(looked.picture, 0, 1), caption=_caption(arrangement, looked, rng))


def arrange(rng: Random) -> Arrangement:
    """Place one icon (78 %), two different ones (14 %) or several alike (8 %)."""
    kind = rng.random()
    if kind < 0.78:
        return _single(rng)
    return _pair(rng) if kind < 0.92 else _several(rng)


def _single(rng: Random) -> Arrangement:
    name, chance = rng.choice(list(ICONS)), rng.random()
    if chance < 0.62:
        return Arrangement(layer=_placed(name, rng.randint(92, 106), rng, 3), noun=name)
    if chance < 0.72:
        size = rng.choice(["large", "big", "huge"])
        return Arrangement(layer=_placed(name, rng.randint(118, 126), rng, 1), noun=f"{size} {name}")
    return _small(name, rng)


def _small(name: str, rng: Random) -> Arrangement:
    noun, side = f"{rng.choice(['small', 'tiny'])} {name}", rng.randint(48, 60)
    if rng.random() >= 0.7:
        return Arrangement(layer=_placed(name, side, rng, 3), noun=noun)
    place = rng.choice(list(PLACES))
    across, down = PLACES[place]
    layer = blank()
    paste(layer, sprite(name, side), *_near(MIDDLE + across * 31, MIDDLE + down * 31, 2, rng))
    return Arrangement(layer=layer, noun=noun, place=place)


def _pair(rng: Random) -> Arrangement:
    first, second = rng.sample(list(ICONS), 2)
    layer, side = blank(), rng.randint(54, 60)
    for name, x in ((first, LEFT), (second, RIGHT)):
        paste(layer, sprite(name, side), *_near(x, MIDDLE, 2, rng))
    both = f"{article(first)} {first} and {article(second)} {second}"
    noun = rng.choice([f"{first} and {second}", f"{first} next to {second}", both])
    return Arrangement(layer=layer, noun=noun, several=True)


def _several(rng: Random) -> Arrangement:
    name, number = rng.choice(list(ICONS)), rng.choice(list(_SPOTS))
    layer, side = blank(), rng.randint(54, 60)
    for x, y in _SPOTS[number]:
        paste(layer, sprite(name, side), *_near(x, y, 1, rng))
    return Arrangement(layer=layer, noun=f"{number} {name}", several=True)


def _placed(name: str, side: int, rng: Random, jitter: float) -> Array:
    layer = blank()
    paste(layer, sprite(name, side), *_near(MIDDLE, MIDDLE, jitter, rng))
    return layer


def _near(x: float, y: float, jitter: float, rng: Random) -> tuple[float, float]:
    return x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter)


def _caption(arrangement: Arrangement, looked: Looked, rng: Random) -> str:
    noun = arrangement.noun
    thing = noun if arrangement.several else f"{article(noun)} {noun}"
    subject = rng.choice([f"{noun} icon", f"icon of {thing}", thing, noun, f"{thing} icon"])
    if looked.words:
        words = looked.words
        subject = rng.choice(
            [f"{words} of {thing}", f"{subject}, {words}", f"{words} {noun} icon", f"{words}, {subject}"]
        )
    parts = [subject, arrangement.place, _ground_words(looked.ground, rng)]
    return " ".join(part for part in parts if part).replace(" ,", ",")


def _ground_words(ground: str, rng: Random) -> str:
    if ground == "white" and rng.random() < 0.5:
        return ""
    return rng.choice([f"on {article(ground)} {ground} background", f"on {ground}", f", {ground} background"])
