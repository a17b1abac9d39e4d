"""How sure a difference is."""

from typing import NamedTuple

import numpy as np

from lora_diffusion.evaluation.features import Array

__all__ = ["Interval", "interval", "p_lower"]

_RESAMPLES = 2000  # the ends of a 95 % interval then move by a hundredth of its width


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Say whether it excludes zero."""
        return self.low > 0 or self.high < 0


def interval(differences: Array, *, seed: int) -> Interval | None:
    """Return the bootstrap interval (percentile) of a mean of paired differences [n], the same for the same seed.

    None with fewer than five of them, whose resamples are too few to say anything at 95 %.
    """
    from scipy.stats import bootstrap

    mean = float(differences.mean())
    if len(differences) < 5:
        return None
    if np.ptp(differences) == 0:
        return Interval(mean, mean, mean)
    draw = np.random.default_rng(seed)
    found = bootstrap((differences,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=draw)
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def p_lower(sample: Array, reference: Array, *, seed: int) -> float:
    """Return the probability that a sample's mean lies so far below the reference's by chance (permutation test).

    1 with fewer than two of either, which say nothing.
    """
    from scipy.stats import permutation_test

    if len(sample) < 2 or len(reference) < 2:
        return 1.0
    draw = np.random.default_rng(seed)

    def below(one: Array, other: Array, axis: int) -> Array:
        return np.asarray(one.mean(axis=axis) - other.mean(axis=axis))

    found = permutation_test(
        (sample, reference), below, alternative="less", n_resamples=_RESAMPLES, vectorized=True, rng=draw
    )
    return float(found.pvalue)
