"""Plain frames and bars around a picture: letterboxes, the margins of screenshots and scans."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["border_of"]

Pixels = NDArray[np.uint8]
Levels = NDArray[np.int16]
Sides = tuple[float, float, float, float]

_SAMPLES = 64  # looked at along a line
_TOLERANCE = 20  # levels: what a JPEG of quality 50 adds beside an edge
_SPECKS = 0.03  # of a line
_DRIFT = 4.0  # levels of a line's mean; a sky drifts further
_BEGINS = 0.65  # of the line where the picture begins differs from the bar; a motif on a page starts with a point
_CORNER = 4  # samples at both ends, some of which must differ as well: a phone on a page does not reach the corners
_IN_CORNERS = 0.25
_FILLS = 0.8  # of the line inside a frame on all four sides, where nothing else hides the picture
_THINNEST = 0.015
_BLOCK = 9  # lines within which it begins: a JPEG smears the edge over its block


def border_of(pixels: Pixels) -> Sides:
    """Return the shares of an RGB picture at (left, top, right, bottom) that are plain bars.

    Columns are judged without the rows that are bars. Of a frame, whose bars hide each other's corners, all four sides
    have to be there.
    """
    height, width = pixels.shape[:2]
    columns = pixels.transpose(1, 0, 2)
    top, bottom = _bars(pixels, _CORNER)
    left, right = _bars(columns[:, top : height - bottom], _CORNER)
    if not (left or top or right or bottom):
        (top, bottom), (left, right) = _bars(pixels, 0), _bars(columns, 0)
        if min(left, top, right, bottom) == 0:
            return 0.0, 0.0, 0.0, 0.0
        inner_rows, inner_columns = pixels[:, left : width - right], columns[:, top : height - bottom]
        top, bottom = _bars(inner_rows, _CORNER, _FILLS)
        left, right = _bars(inner_columns, _CORNER, _FILLS)
        if min(left, top, right, bottom) == 0:
            return 0.0, 0.0, 0.0, 0.0
    return left / width, top / height, right / width, bottom / height


def _bars(pixels: Pixels, corner: int, begins: float = _BEGINS) -> tuple[int, int]:
    """Return how many of the first and of the last lines are a bar.

    One coloured bar alone may be a sky or a table; it counts only in black or white, or with its like opposite.
    """
    (first, colour), (last, opposite) = _bar(pixels, corner, begins), _bar(pixels[::-1], corner, begins)
    if first and last and np.abs(colour - opposite).max() <= _TOLERANCE:
        return first, last
    return first * _colourless(colour), last * _colourless(opposite)


def _colourless(colour: Levels) -> bool:
    return bool(colour.max() <= 24 or colour.min() >= 236)


def _bar(pixels: Pixels, corner: int, begins: float) -> tuple[int, Levels]:
    """Return how many lines of one plain colour come before the picture begins abruptly, and their colour."""
    start = np.median(pixels[0], axis=0).astype(np.int16)
    if _off(pixels[0].astype(np.int16), start).mean() > _SPECKS:
        return 0, start
    lines = pixels[: len(pixels) // 2, :: max(1, pixels.shape[1] // _SAMPLES)].astype(np.int16)
    samples = _off(lines, start)
    off = samples.mean(axis=1)
    drift = np.abs(lines.mean(axis=1) - start).max(axis=1)
    plain = (off <= _SPECKS) & (drift <= _DRIFT)
    if plain.all():  # no picture within the half: a motif on a page, or nothing at all
        return 0, start
    end = int(plain.argmin())
    begun = (off >= begins)[end : end + _BLOCK]
    if corner:
        corners = np.minimum(samples[:, :corner].mean(axis=1), samples[:, -corner:].mean(axis=1))
        begun &= (corners >= _IN_CORNERS)[end : end + _BLOCK]
    length = end + int(begun.argmax())
    return (length if begun.any() and length >= _THINNEST * len(pixels) else 0), start


def _off(pixels: Levels, colour: Levels) -> NDArray[np.bool_]:
    red, green, blue = (np.abs(pixels[..., channel] - colour[channel]) for channel in range(3))
    off: NDArray[np.bool_] = np.maximum(np.maximum(red, green), blue) > _TOLERANCE  # 5 times as fast as max(axis=-1)
    return off
