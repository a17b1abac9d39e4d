"""How close pictures are to a set of pictures, by aspect, on a scale between the base model and the set itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lora_diffusion.evaluation.features import Array, Pixels, colours, detail, lines, texture

__all__ = ["ASPECTS", "Scale", "scale_of"]

_NEAREST = 3
"""Colours are compared with so many of the set's pictures, the nearest: a style may have several grounds."""
_REFERENCES = 32
"""Pictures of the set that palettes are compared with: 84 drawn pictures take 2 s then."""
_SPLITS = 2
_TOLD_APART = 1.1
"""An aspect in which the base model is less than this many times as far off as the set itself says nothing."""

Distances = Callable[[Sequence[Array], Sequence[Array]], Array]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The aspects of a set, each with the distance of the set from itself (`own`) and of the base model (`base`).

    An aspect weighs as much as it tells the two apart, by the square of log(base / own).
    """

    features: Mapping[str, tuple[Array, ...]]
    own: Mapping[str, float]
    base: Mapping[str, float]

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each aspect that tells base and set apart; they sum to 1, or there are none."""
        ratios = {name: self.base[name] / max(self.own[name], 1e-9) for name in self.own}
        found = {name: float(np.log(ratio)) ** 2 for name, ratio in ratios.items() if ratio > _TOLD_APART}
        total = sum(found.values())
        return {name: each / total for name, each in found.items()}

    def aspects(self, pictures: Sequence[Pixels]) -> dict[str, Array]:
        """Return by aspect how close each picture [n] is: 0 like the base model, 100 like the set is to itself.

        Beyond 100 nothing is gained and below -100 nothing is lost.
        """
        result = {}
        for name in self.weights:
            measure, distances = ASPECTS[name]
            found = distances([measure(picture) for picture in pictures], self.features[name])
            share = (self.base[name] - found) / (self.base[name] - self.own[name])
            result[name] = 100 * np.clip(share, -1.0, 1.0)
        return result

    def score(self, aspects: Mapping[str, Array]) -> Array:
        """Return the weighted closeness of each picture [n]."""
        weighted: Array = np.sum([weight * aspects[name] for name, weight in self.weights.items()], axis=0)
        return weighted


def scale_of(training: Sequence[Pixels], base: Sequence[Pixels], *, seed: int) -> Scale:
    """Measure a set of at least four pictures against itself, by halves, and against what the base model draws."""
    features, own, far = {}, {}, {}
    for name, (measure, distances) in ASPECTS.items():
        found = [measure(picture) for picture in training]
        features[name] = tuple(found)
        own[name] = _by_halves(found, distances, seed)
        far[name] = float(distances([measure(picture) for picture in base], found).mean())
    return Scale(features=features, own=own, base=far)


def _by_halves(features: Sequence[Array], distances: Distances, seed: int) -> float:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(_SPLITS):
        order = draw.permutation(len(features))
        halves = [[features[at] for at in part] for part in np.array_split(order, 2)]
        found += [distances(halves[0], halves[1]), distances(halves[1], halves[0])]
    return float(np.concatenate(found).mean())


def _moved(pictures: Sequence[Array], reference: Sequence[Array]) -> Array:
    """Return the earth mover's distances [n] of palettes to the nearest of the reference, in Oklab."""
    step = max(1, -(-len(reference) // _REFERENCES))
    among = reference[::step]
    result = [np.sort([_earth_mover(one, other) for other in among])[:_NEAREST].mean() for one in pictures]
    return np.array(result)


def _earth_mover(one: Array, other: Array) -> float:
    """Between samples of one size the earth mover's distance is the mean cost of the cheapest assignment."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    costs = cdist(one, other)
    return float(costs[linear_sum_assignment(costs)].mean())


def _deviations(pictures: Sequence[Array], reference: Sequence[Array]) -> Array:
    """Return how many standard deviations of the reference pictures are off its mean, over all numbers, [n]."""
    known = np.array(reference)
    spread = known.std(axis=0)
    spread = spread + 0.1 * spread.mean() + 1e-6  # a number that hardly varies in a few pictures is no infinite measure
    off = (np.array(pictures) - known.mean(axis=0)) / spread
    return np.asarray(np.sqrt((off**2).mean(axis=1)))


ASPECTS: Mapping[str, tuple[Callable[[Pixels], Array], Distances]] = {
    "colours": (colours, _moved),
    "texture": (texture, _deviations),
    "fine detail": (detail, _deviations),
    "lines": (lines, _deviations),
}
"""Aspect of a style -> what measures it in a picture, and the distances of pictures to a set."""
