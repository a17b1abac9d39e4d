"""What a look at the pixels says about a picture: blur, compression, frames, lettering, colours."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from datasets_tools.lettering import lettering_of
from datasets_tools.palette import palette_of

__all__ = ["BLOCKY", "BLURRED", "LETTERED", "Quality", "quality_of"]

Grey = NDArray[np.int16]
Pixels = NDArray[np.uint8]
Sides = tuple[float, float, float, float]

BLURRED = 0.55
BLOCKY = 16.0
LETTERED = 0.004

_SIDE = 512  # pixels of the shorter side at which everything but blockiness is measured
_AREA = 700_000  # and pixels in all, for panoramas
_TILES = 4
_TAPS = 5
_EDGES = (6, 3)  # grey levels from one pixel to the next: clear edges, and haze where there are none
_ENOUGH = 0.1  # grey levels of edge per pixel of a tile, below which it is plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Measurements of one picture; thresholds belong to whoever judges them.

    Args:
        blur: 0 (sharp) to 1 (blurred) in the sharpest part of the picture; None where nothing has an edge.
        blockiness: the step to which a JPEG encoder rounded the lowest waves of 8 x 8 blocks, as the pixels still show
            it: about 12 at IJG quality 50, 24 at 25, 60 at 10. 0 is none found, None where there is too little to see.
        border: share of the width or height at (left, top, right, bottom) that is a plain frame or bar.
        lettering: share of the picture's area inside lines that look like text.
        colours: up to six ((red, green, blue), share of the area), the largest share first.
    """

    blur: float | None = None
    blockiness: float | None = None
    border: Sides = (0.0, 0.0, 0.0, 0.0)
    lettering: float = 0.0
    colours: tuple[tuple[tuple[int, int, int], float], ...] = ()


def quality_of(image: Image, detail: Image | None = None) -> Quality:
    """Measure an upright RGB picture, best at about 512 pixels on the shorter side.

    `detail` is a part of the file at its own resolution, before any scaling: blocks of a JPEG are seen only there.
    """
    image = image.convert("RGB")
    factor = max(min(image.size) // _SIDE, math.ceil(math.sqrt(image.width * image.height / _AREA)), 1)
    image = image.reduce(factor) if factor > 1 else image
    grey = image.convert("L")
    return Quality(
        blur=_blur(np.asarray(grey).astype(np.int16)),
        blockiness=None if detail is None else _blockiness(np.asarray(detail.convert("L")).astype(np.int16)),
        border=_border(np.asarray(image)),
        lettering=lettering_of(grey),
        colours=palette_of(image),
    )


def _blur(grey: Grey) -> float | None:
    """Return the re-blur metric of Crete et al. 2007 ("The blur effect") of the sharpest tile with edges."""
    for least in _EDGES:
        across, along = _reblur(grey[::2], least), _reblur(grey.T[::2], least).transpose(0, 2, 1)
        edges = np.stack([across[0], along[0]])
        kept = np.stack([across[1], along[1]])
        enough = edges >= _ENOUGH
        if enough.any():
            blur = np.where(enough, kept / np.maximum(edges, _ENOUGH), 0).max(axis=0)  # the worse of both directions
            return float(blur[enough.any(axis=0)].min())
    return None


def _reblur(grey: Grey, least: int) -> NDArray[np.float64]:
    """Return, per tile, the steps along the rows and what a box of five pixels leaves of them, per pixel.

    A step between neighbours of the blurred row is the difference of the two ends of the box, so it is never computed.
    """
    if grey.shape[0] < _TILES or grey.shape[1] < _TILES + _TAPS:
        return np.zeros((2, _TILES, _TILES))
    steps = np.abs(grey[:, 3:-2] - grey[:, 2:-3])
    steps[steps < least] = 0
    left = np.minimum(steps, np.abs(grey[:, 5:] - grey[:, :-5]) // _TAPS)
    return np.stack([_per_tile(steps), _per_tile(left)])


def _per_tile(values: Grey) -> NDArray[np.float64]:
    high, wide = values.shape[0] // _TILES, values.shape[1] // _TILES
    tiles = values[: high * _TILES, : wide * _TILES].reshape(_TILES, high, _TILES, wide)
    sums: NDArray[np.float64] = tiles.sum(axis=1, dtype=np.int32).sum(axis=2) / (high * wide)
    return sums


_BLOCKS = 1200  # looked at
_FEWEST, _MOST = 40, 300  # values: enough for a statistic, and as many as it needs
# IJG quality 58 has steps of 10, quality 4 of 140; 4 % apart, so that the third multiple is off by an eighth at most
_CANDIDATES = np.geomspace(10, 140, 72, dtype=np.float32)


def _blockiness(detail: Grey) -> float | None:
    """Return the step to which the lowest frequencies of 8 x 8 blocks were rounded, in units of the transform.

    A JPEG keeps only multiples of its steps, and a copy in another format still shows them, on whatever content.
    """
    if min(detail.shape) < 64:
        return None
    (top, other_top), (left, other_left) = _grid_phases(detail.T), _grid_phases(detail)
    likely = ((top, left), (other_top, left), (top, other_left))
    measured = [_rounding(detail[row:, column:]) for row, column in likely]
    return max((one for one in measured if one is not None), default=None)


def _grid_phases(grey: Grey) -> tuple[int, int]:
    """Return the two likeliest first columns of the block grid: where slopes change most from column to column."""
    change = np.abs(3 * (grey[::4, 2:-1] - grey[::4, 1:-2]) - (grey[::4, 3:] - grey[::4, :-3]))
    within = change <= 80  # more is an edge of the picture itself
    strength = [change[:, at::8].sum(where=within[:, at::8]) / max(within[:, at::8].sum(), 1) for at in range(8)]
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
    fits = np.cos(2 * np.pi * turns).sum(axis=1, where=counted) / np.maximum(counts, 1)
    several = ((turns > 1.5) & counted).sum(axis=1) > counts / 20  # one lone multiple is a pattern, not a rounding
    good = several & (counts >= _FEWEST) & (fits > 0.2 + 2.8 / np.sqrt(np.maximum(counts, 1)))
    if not good.any():
        return 0.0
    largest = np.flatnonzero(good & (fits >= 0.7 * fits[good].max()))[-1]  # half and third of a step fit as well
    nearest = max(0, largest - 4)
    return float(_CANDIDATES[nearest + fits[nearest : largest + 1].argmax()])


_SAMPLES = 64  # looked at along a line
_TOLERANCE = 20  # levels: what a JPEG of quality 50 adds beside an edge
_SPECKS = 0.03  # of a line
_DRIFT = 4.0  # levels of a line's mean; a sky drifts further
_BEGINS = 0.6  # of the line where the picture begins differs from the bar; a motif on a page starts with a point
_THINNEST = 0.015
_BLOCK = 9  # lines within which it begins: a JPEG smears the edge over its block


def _border(pixels: Pixels) -> Sides:
    """Return the shares of plain bars. Columns are judged without the rows that are bars, and the other way round."""
    height, width = pixels.shape[:2]
    top, bottom = _bars(pixels)
    left, right = _bars(pixels[top : height - bottom].transpose(1, 0, 2))
    if (left or right) and not (top or bottom):
        top, bottom = _bars(pixels[:, left : width - right])
    return left / width, top / height, right / width, bottom / height


def _bars(pixels: Pixels) -> tuple[int, int]:
    """Return how many of the first and of the last lines are a bar.

    One coloured bar alone may be a sky or a table; it counts only in black or white, or with its like opposite.
    """
    (first, colour), (last, opposite) = _bar(pixels), _bar(pixels[::-1])
    if first and last and np.abs(colour - opposite).max() <= _TOLERANCE:
        return first, last
    return first * _colourless(colour), last * _colourless(opposite)


def _colourless(colour: Grey) -> bool:
    return bool(colour.max() <= 24 or colour.min() >= 236)


def _bar(pixels: Pixels) -> tuple[int, Grey]:
    """Return how many lines of one plain colour come before the picture begins abruptly, and their colour."""
    start = np.median(pixels[0], axis=0).astype(np.int16)
    if _off(pixels[0].astype(np.int16), start).mean() > _SPECKS:
        return 0, start
    lines = pixels[: len(pixels) // 2, :: max(1, pixels.shape[1] // _SAMPLES)].astype(np.int16)
    off = _off(lines, start).mean(axis=1)
    drift = np.abs(lines.mean(axis=1) - start).max(axis=1)
    plain = (off <= _SPECKS) & (drift <= _DRIFT)
    if plain.all():  # no picture within the half: a motif on a page, or nothing at all
        return 0, start
    end = int(plain.argmin())
    begun = off[end : end + _BLOCK] >= _BEGINS
    length = end + int(begun.argmax())
    return (length if begun.any() and length >= _THINNEST * len(pixels) else 0), start


def _off(pixels: Grey, colour: Grey) -> NDArray[np.bool_]:
    red, green, blue = (np.abs(pixels[..., channel] - colour[channel]) for channel in range(3))
    off: NDArray[np.bool_] = np.maximum(np.maximum(red, green), blue) > _TOLERANCE  # 5 times as fast as max(axis=-1)
    return off
