"""Pictures whose style and content are known, and a denoiser that knows what each word looks like."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from lora_diffusion.evaluation.evidence import Drawn, Evidence, Given, Prompt
from lora_diffusion.files.adapter import Adapter

SIDE = 64
SHAPES = ("ball", "box", "tent", "cross", "ring", "bars", "stairs", "moon")
KITCHEN = ("cup", "plate", "fork", "knife", "spoon", "bowl", "jar", "pan")

Look = dict[str, tuple[int, int, int]]
PAPER: Look = {"ground": (240, 220, 190), "fill": (180, 80, 60), "line": (180, 80, 60)}
PRINT: Look = {"ground": (20, 60, 150), "fill": (80, 130, 210), "line": (255, 255, 255)}
PLAIN: Look = {"ground": (255, 255, 255), "fill": (60, 160, 70), "line": (60, 160, 70)}


def picture(word: str, look: Look, *, seed: int = 0) -> np.ndarray:
    """Draw what a word stands for in a look; the seed decides size and place, and adds a little grain."""
    draw = np.random.default_rng([seed, *word.encode()])
    image = Image.new("RGB", (SIDE, SIDE), look["ground"])
    pen = ImageDraw.Draw(image)
    shape = np.random.default_rng(list(word.encode()))
    for _ in range(3):
        x, y = shape.integers(6, 40, 2) + draw.integers(-2, 3, 2)
        width, height = shape.integers(10, 24, 2)
        kind = (pen.ellipse, pen.rectangle)[shape.integers(2)]
        kind((x, y, x + width, y + height), fill=look["fill"], outline=look["line"], width=2)
    grain = draw.normal(0, 3, (SIDE, SIDE, 3))
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


def mixed(word: str, look: Look, share: float, *, seed: int = 0) -> np.ndarray:
    """Draw in a look that is so far on the way from the plain one."""
    way = {
        part: tuple(round(a + share * (b - a)) for a, b in zip(PLAIN[part], look[part], strict=True)) for part in PLAIN
    }
    return picture(word, way, seed=seed)


def drawn(draw: Callable[[str], np.ndarray]) -> tuple[Drawn, ...]:
    return tuple(Drawn(prompt=index, seed=index, pixels=draw(word)) for index, word in enumerate(SHAPES))


def given(words: tuple[str, ...], look: Look) -> tuple[Given, ...]:
    return tuple(
        Given(name=f"{word}.png", content=word, caption=f"zzz, {word}", pixels=picture(word, look, seed=50))
        for word in words
    )


class KnowingDenoiser:
    """The loss of a picture under a word is how far it is from what the word looks like; adapters lower it by a share.

    `gain` is that share by the role of the adapter; `extra` what both add together beyond their sum.
    """

    def __init__(self, *, gain: float = 0.2, other: float = 0.0, extra: float = 0.0) -> None:
        self._gain, self._other, self._extra = gain, other, extra

    def losses(self, mix, questions):
        shapes = [
            abs(_shape(each.picture) - _shape(picture(each.words.removeprefix("zzz, "), PLAIN))).mean()
            for each in questions
        ]
        scale = 1 - self._gain * mix.adapter - self._other * mix.other
        return np.array(
            [scale * (0.01 + shape) * (1 + each.band) for shape, each in zip(shapes, questions, strict=True)]
        )

    def answers(self, mix, questions):
        ways = np.eye(3, 5)
        both = self._extra * mix.adapter * mix.other
        one = mix.adapter * ways[0] + mix.other * ways[1] + both * ways[2]
        return np.array([one for _ in questions], np.float32)


def _shape(pixels: np.ndarray) -> np.ndarray:
    """Where something is drawn, whatever its colours."""
    return (abs(pixels.astype(int) - pixels[:2, :2].astype(int).mean(axis=(0, 1))).sum(axis=2) > 60).astype(float)


def evidence(**more) -> Evidence:
    """An adapter that draws the style of paper from half to all the way, on words that no training picture shows."""
    weights = (0.5, 0.75, 1.0)
    known = {
        "adapter": Adapter(name="paper", family="sd1", modules={}),
        "prompts": tuple(Prompt(content=word, full=f"zzz, {word}") for word in SHAPES),
        "base": drawn(lambda word: picture(word, PLAIN)),
        "sweep": {weight: drawn(lambda word, at=weight: mixed(word, PAPER, at)) for weight in weights},
        "denoiser": KnowingDenoiser(),
        "zero_is_base": True,
        "plain": drawn(lambda word: mixed(word, PAPER, 0.1)),
        "training": given(KITCHEN, PAPER),
        "held_out": given(SHAPES, PAPER),
    }
    return Evidence(**{**known, **more})
