"""All that metrics judge by: pictures that were drawn and given, and a denoiser that answers questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lora_diffusion.evaluation.features import Array, Pixels
from lora_diffusion.files.adapter import Adapter

__all__ = ["BANDS", "BASE", "Denoiser", "Drawn", "Evidence", "Given", "Mix", "Prompt", "Question"]

BANDS = ("finest lines", "shapes", "layout", "overall tone")
"""What the denoiser decides at each of four noise levels, from nearly clean to nearly noise."""


class Mix(NamedTuple):
    """Weights of the adapter and of the one that it is compared with; without either it is the base model."""

    adapter: float = 0.0
    other: float = 0.0


BASE = Mix()
"""The base model alone."""


class Prompt(NamedTuple):
    """What was asked for: the content alone, and the same with the trigger."""

    content: str
    full: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A drawn picture. `prompt` is the index of its prompt."""

    prompt: int
    seed: int
    pixels: Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A picture that somebody gave, cut to the size that is drawn. `content` is its caption without the trigger."""

    name: str
    content: str
    caption: str
    pixels: Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """A picture that the denoiser shall explain, by words, at a noise level; `draw` numbers the noise."""

    picture: Pixels
    words: str
    band: int
    draw: int = 0


class Denoiser(Protocol):
    """Answers with adapters at any weights. Noise depends on seed, band and draw alone: answers are paired."""

    def losses(self, mix: Mix, questions: Sequence[Question]) -> Array:
        """Return the denoising loss [n] of each question."""

    def answers(self, mix: Mix, questions: Sequence[Question]) -> NDArray[np.float32]:
        """Return what the denoiser says to each question, [n, values] in fp32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What there is to judge an adapter by. `None` stands for what was not given.

    `base` are drawn without adapter and without trigger, `sweep` with the trigger at each weight; pictures of one
    place in them have the same prompt and the same noise. `plain` are drawn at weight 1 without the trigger, `other` by
    the other adapter at weight 1; `clip` is the folder of a CLIP model. `zero_is_base` says whether the base model's
    answers are bit by bit the same with the adapter at weight 0.
    """

    adapter: Adapter
    prompts: tuple[Prompt, ...]
    base: tuple[Drawn, ...]
    sweep: Mapping[float, tuple[Drawn, ...]]
    denoiser: Denoiser
    zero_is_base: bool
    plain: tuple[Drawn, ...] | None = None
    training: tuple[Given, ...] | None = None
    held_out: tuple[Given, ...] | None = None
    against: Adapter | None = None
    other: tuple[Drawn, ...] | None = None
    clip: Path | None = None
    seed: int = 0

    @property
    def strongest(self) -> float:
        """Return the weight that stands for the adapter as it was trained: 1, else the nearest in the sweep."""
        return min(self.sweep, key=lambda weight: (abs(weight - 1.0), weight))
