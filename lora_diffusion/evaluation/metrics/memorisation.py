"""Are the pictures copies of the training pictures?"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from lora_diffusion.evaluation.evidence import Drawn, Evidence
from lora_diffusion.evaluation.features import Array, layout
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.metrics.style import LEAST_PICTURES
from lora_diffusion.evaluation.score import Score, missing
from lora_diffusion.evaluation.statistics import p_lower

__all__ = ["Memorisation"]

_COPIES, _SURE = 0.65, 0.05
"""On the embedded base a sound adapter has 0.9 to 1.2, and one that shows its only training picture in others 0.53."""
_COPY = 0.1
"""A single picture this many times as near as usual is a copy of its own: re-encoded ones reach 0.01."""


class Memorisation(Metric):
    name: ClassVar[str] = "memorisation"
    title: ClassVar[str] = "Own pictures, not copies"
    means: ClassVar[str] = (
        "How far the layout of a drawn picture is from the most similar training picture, compared with how far the "
        "training pictures are from each other. About 1 or more is good; well below 1 training pictures are copied."
    )
    place: ClassVar[int] = 30

    def measure(self, evidence: Evidence) -> Score:
        if not evidence.training:
            return missing("give --data, the folder of pictures that the style was trained on")
        known = np.array([layout(each.pixels) for each in evidence.training])
        usual, compared = _usual(known, evidence.base)
        found = {weight: _nearest(drawn, known) for weight, drawn in evidence.sweep.items()}
        by_weight = {weight: _ratio(each, usual) for weight, each in found.items()}
        at = evidence.strongest
        near, value = found[at], by_weight[at]
        closest = int(np.argmin(near.distances))
        chance = p_lower(near.distances, usual, seed=evidence.seed)
        picture, drawn = evidence.training[int(near.indices[closest])], evidence.sweep[at][closest]
        copied_at = [weight for weight, each in found.items() if _copied(each, usual, evidence.seed)]
        pair = f"“{evidence.prompts[drawn.prompt].full}” and {picture.name}"
        return Score(
            value=value,
            unit="of usual distance",
            verdict=_verdict(at in copied_at, pair, at),
            tone="bad" if at in copied_at else "good",
            by_weight=by_weight,
            details={
                "copied": at in copied_at,
                "compared_with": compared,
                "p": chance,
                "usual_distance": float(np.median(usual)),
                "copied_at": [f"{weight:g}" for weight in copied_at],
                "closest": {
                    "prompt": evidence.prompts[drawn.prompt].full,
                    "seed": drawn.seed,
                    "training_picture": picture.name,
                    "distance": float(near.distances[closest]),
                },
            },
        )


class _Near(NamedTuple):
    """Distance [n] of each picture to the nearest training picture, and which that is [n]."""

    distances: Array
    indices: Array


def _usual(known: Array, base: Sequence[Drawn]) -> tuple[Array, str]:
    """Return the usual distances of pictures to their nearest, and between what they are."""
    if len(known) < LEAST_PICTURES:
        return _nearest(base, known).distances, "pictures of the base model and the training pictures"
    between = _distances(known, known)
    np.fill_diagonal(between, np.inf)
    return between.min(axis=1), "training pictures and each other"


def _nearest(drawn: Sequence[Drawn], known: Array) -> _Near:
    between = _distances(np.array([layout(each.pixels) for each in drawn]), known)
    return _Near(between.min(axis=1), between.argmin(axis=1))


def _distances(one: Array, other: Array) -> Array:
    """1 minus the correlation, [n, m]: 0 for copies, about 1 for unrelated pictures."""
    return np.asarray((1 - one @ other.T).clip(min=0.0))


def _ratio(near: _Near, usual: Array) -> float:
    return float(np.median(near.distances) / max(np.median(usual), 1e-9))


def _copied(near: _Near, usual: Array, seed: int) -> bool:
    single = bool((near.distances < _COPY * np.median(usual)).any())
    return single or (_ratio(near, usual) < _COPIES and p_lower(near.distances, usual, seed=seed) < _SURE)


def _verdict(copied: bool, pair: str, weight: float) -> str:
    if copied:
        return f"At {weight:.0%} training pictures are copied. Nearest to each other are {pair}: compare these two."
    return f"At {weight:.0%} the pictures are new ones, not copies. Nearest to each other are {pair}."
