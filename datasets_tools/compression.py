"""The traces that a JPEG encoder leaves in the pixels, also in a copy saved again, or as another format."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["blockiness_of", "blockiness_of_means"]

Grey = NDArray[np.int16]

_BLOCKS = 1200  # looked at
_FEWEST, _MOST = 40, 300  # values: enough for a statistic, and as many as it needs
# IJG quality 58 has steps of 10, quality 4 of 140; 4 % apart, so that the third multiple is off by an eighth at most
_OF_MEANS = 0.75
_CLIPPED = 8  # levels from black and white, within which some of a block is clipped
_CANDIDATES = np.geomspace(10, 140, 72, dtype=np.float32)


def blockiness_of(detail: Grey) -> float | None:
    """Return the step to which the lowest frequencies of 8 x 8 blocks were rounded, in units of the transform.

    A JPEG keeps only multiples of its steps, and a copy in another format still shows them, on whatever content.
    """
    if min(detail.shape) < 64:
        return None
    (top, other_top), (left, other_left) = _grid_phases(detail.T), _grid_phases(detail)
    likely = ((top, left), (other_top, left), (top, other_left))
    measured = [_rounding(detail[row:, column:]) for row, column in likely]
    return max((one for one in measured if one is not None), default=None)


def blockiness_of_means(means: NDArray[np.float32]) -> float | None:
    """Return the same from the mean levels of the blocks alone: all that is left where a JPEG was scaled on decoding.

    They are rounded to 4/3 of the step of the lowest waves (Annex K has 16 where those have 11 and 12), in plain parts
    as well. The blocks have to be those of the encoder: what lost the grid by a crop is not found.
    """
    whole = (means > _CLIPPED) & (means < 255 - _CLIPPED)
    across = np.abs(np.diff(means, axis=1))[whole[:, 1:] & whole[:, :-1]]
    along = np.abs(np.diff(means, axis=0))[whole[1:] & whole[:-1]]
    steps = [_step(8 * levels[:: max(1, levels.size // _BLOCKS)]) for levels in (across, along)]
    known = [step for step in steps if step is not None]
    return _OF_MEANS * min(known) if known else None


def _grid_phases(grey: Grey) -> tuple[int, int]:
    """Return the two likeliest first columns of the block grid: where slopes change most from column to column."""
    change = np.abs(3 * (grey[::4, 2:-1] - grey[::4, 1:-2]) - (grey[::4, 3:] - grey[::4, :-3]))
    within = change <= 80  # more is an edge of the picture itself
    total, count = (change * within).sum(axis=0), within.sum(axis=0)
    strength = [total[at::8].sum() / max(count[at::8].sum(), 1) for at in range(8)]
    second, first = np.argsort(strength)[-2:]
    return (int(first) + 2) % 8, (int(second) + 2) % 8


# The three lowest waves of the 8 x 8 cosine transform, as rows over the 64 pixels of a block.
_RISE = 0.5 * np.cos((2 * np.arange(8) + 1) * np.pi / 16)
_FLAT = np.full(8, math.sqrt(1 / 8))
_PAIRS = ((_FLAT, _RISE), (_RISE, _FLAT), (_RISE, _RISE))
_WAVES = np.stack([np.outer(down, across).ravel() for down, across in _PAIRS]).astype(np.float32)


def _rounding(grey: Grey) -> float | None:
    rows, columns = (side // 8 for side in grey.shape)
    apart = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(1, 3, 0, 2).reshape(64, -1)
    low, high = apart.min(axis=0), apart.max(axis=0)
    whole = (low > 0) & (high < 255) & (low < high)  # clipping blurs the rounding
    chosen = np.flatnonzero(whole if whole.sum() >= 3 * _FEWEST else low < high)
    chosen = chosen[:: max(1, len(chosen) // _BLOCKS)]
    waves = _WAVES @ apart[:, chosen].astype(np.float32)
    _, different = np.unique(np.array([1.0, 1024.0, 1024.0**2]) @ np.round(waves / 4), return_index=True)
    steps = [_step(wave) for wave in np.abs(waves[:, different])]  # a repeated pattern has few values, rounded or not
    known = [step for step in steps if step is not None]
    return float(np.median(known)) if known else None


def _step(values: NDArray[np.float32]) -> float | None:
    """Return the step of which the values are multiples; 0 where they are not, None where they are too few."""
    values = values[values > _CANDIDATES[0] / 2]
    if values.size < _FEWEST:
        return None
    values = values[:: math.ceil(values.size / _MOST)]
    turns = values / _CANDIDATES[:, None]
    counted = (turns > 0.5) & (turns < 3.5)
    counts = counted.sum(axis=1)
    fits = (np.cos(2 * np.pi * turns) * counted).sum(axis=1) / np.maximum(counts, 1)  # `where` is six times as slow
    several = ((turns > 1.5) & counted).sum(axis=1) > counts / 20  # one lone multiple is a pattern, not a rounding
    good = several & (counts >= _FEWEST) & (fits > 0.2 + 2.8 / np.sqrt(np.maximum(counts, 1)))
    if not good.any():
        return 0.0
    largest = np.flatnonzero(good & (fits >= 0.7 * fits[good].max()))[-1]  # half and third of a step fit as well
    nearest = max(0, largest - 4)
    return float(_CANDIDATES[nearest + fits[nearest : largest + 1].argmax()])
