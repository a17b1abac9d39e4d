"""Find lines of letters: words, captions, watermarks, wordmarks.

Nothing is read. A line is a row of separate marks that are about equally tall, stand on one baseline, close together,
evenly inked, and differ in shape from one to the next; the last tells letters from bricks, windows and halftone dots.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.Image import Resampling

from datasets_tools.marks import Marks, marks_of

__all__ = ["lettering_of", "lines_of"]

Box = tuple[int, int, int, int]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_AREA = 270_000  # pixels looked at: letters of 12 pixels in a picture of 512 x 640 are still 5 pixels high
_SCALES = (1, 3)  # and again at a third, for wordmarks of up to 180 pixels
_HEIGHTS = (5, 60)  # pixels of a letter
_AROUND = 14  # pixels of surroundings on each side; strokes wider than half of it belong to the coarser scale
_CONTRAST = (22, 45)  # grey levels between ink and surroundings, least and most; a page of text is texture as well
_MOST_MARKS = 10_000  # more is grain; a dense page of small print has 7,000
_AT_ONCE = 250  # marks compared with each other, from the top down: bounds the cost, which grows with the square
_LETTERS = 5  # in a row, below which chance makes too many rows of foliage


def lettering_of(grey: Image.Image) -> float:
    """Return the share of the area of an 8-bit grey picture that lies inside lines of letters."""
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in lines_of(grey))
    return min(1.0, covered / (grey.width * grey.height))


def lines_of(grey: Image.Image) -> list[Box]:
    """Return the lines of letters as (left, top, right, bottom) in pixels; level ones only, never overlapping."""
    boxes: list[Box] = []
    small = grey
    for coarser in _SCALES:
        scale = coarser * max(1.0, (grey.width * grey.height / _AREA) ** 0.5)
        size = max(1, round(grey.width / scale)), max(1, round(grey.height / scale))
        small = small if size == small.size else small.resize(size, Resampling.BOX, reducing_gap=2.0)
        for line in _lines(small):
            left, top, right, bottom = (round(value * scale) for value in line)
            boxes.append((left, top, min(right, grey.width), min(bottom, grey.height)))
    return _distinct(boxes)


def _distinct(boxes: list[Box]) -> list[Box]:
    """Keep the largest of boxes that overlap: both scales and both polarities may see the same word."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1])):
        if not any(box[0] < k[2] and k[0] < box[2] and box[1] < k[3] and k[1] < box[3] for k in kept):
            kept.append(box)
    return kept


def _lines(grey: Image.Image) -> list[tuple[float, float, float, float]]:
    around = np.asarray(grey.filter(ImageFilter.BoxBlur(_AROUND)))
    difference = np.subtract(np.asarray(grey), around, dtype=np.int16)
    texture = 2 * float(np.median(np.abs(difference[::4, ::4])))  # strong texture is not ink
    contrast = min(max(_CONTRAST[0], texture), _CONTRAST[1])
    sums = np.zeros(difference.size + 1, np.int32)
    np.cumsum(np.abs(difference), out=sums[1:])
    found = []
    for ink in (difference < -int(contrast), difference > int(contrast)):  # a float would convert the whole array
        marks = marks_of(ink, sums, _MOST_MARKS)
        marks = marks.take(_sized(marks, ink.shape))
        marks = marks.take(_solid(marks) & (marks.contrast > 1.3 * contrast))
        marks = marks.take(np.argsort(marks.top + marks.bottom))
        for start in range(0, len(marks), _AT_ONCE):
            found += _rows(marks.take(np.arange(start, min(start + _AT_ONCE, len(marks)))))
    return found


def _sized(marks: Marks, shape: tuple[int, ...]) -> Mask:
    """Say which marks have the size of a letter and do not touch the edge."""
    tall, wide = marks.tall, marks.wide
    inside: Mask = (marks.left > 0) & (marks.top > 0) & (marks.right < shape[1]) & (marks.bottom < shape[0])
    inside &= (tall >= _HEIGHTS[0]) & (tall <= _HEIGHTS[1]) & (wide <= 2.2 * tall)  # "w", or two letters that touch
    return inside


def _solid(marks: Marks) -> Mask:
    fill = marks.fill
    solid: Mask = (fill > 0.18) & ((fill > 0.5) | (marks.wide > 0.25 * marks.tall))  # narrow ones are straight: i, l, 1
    return solid


def _rows(marks: Marks) -> list[tuple[float, float, float, float]]:
    """Follow every mark to its nearest fitting neighbour on the right, and return the boxes of rows that read."""
    if len(marks) < _LETTERS:
        return []
    marks = marks.take(np.argsort(marks.left))
    follower = _followers(marks)
    taken = np.zeros(len(marks), np.bool_)
    found = []
    for start in range(len(marks)):
        row, last = [start], int(follower[start])
        while not taken[start] and last >= 0 and not taken[last]:
            row.append(last)
            taken[last] = True
            last = int(follower[last])
        if len(row) >= _LETTERS and _reads(letters := marks.take(row)):
            found.append((letters.left.min(), letters.top.min(), letters.right.max(), letters.bottom.max()))
    return found


def _followers(marks: Marks) -> NDArray[np.intp]:
    """Return for each mark, sorted by its left side, the index of the next letter of its line, or -1."""
    one, other = _pairs(marks)
    near = np.abs(marks.bottom[one] - marks.bottom[other]) <= 0.14 * _HEIGHTS[1]  # a cheap look first: most are not
    near |= np.abs(marks.top[one] - marks.top[other]) <= 0.1 * _HEIGHTS[1]
    one, other = one[near], other[near]
    here, there = marks.take(one), marks.take(other)
    tall, gap = np.maximum(here.tall, there.tall), there.left - here.right
    fits = (gap > -0.15 * tall) & (gap <= tall)  # italics overlap
    fits &= tall <= 1.75 * np.minimum(here.tall, there.tall)  # capitals are 1.4 times as tall as an x
    level = np.abs(here.bottom - there.bottom) <= np.maximum(1, 0.14 * tall)
    level |= np.abs(here.top - there.top) <= np.maximum(1, 0.1 * tall)  # g, p and y hang
    fits &= level & _similar(here.contrast, there.contrast) & _similar(here.thickness, there.thickness)
    one, other, gap = one[fits], other[fits], gap[fits]
    farthest_first = np.lexsort((-other, -gap, one))
    follower = np.full(len(marks), -1)
    follower[one[farthest_first]] = other[farthest_first]  # of several the last one assigned stays
    return follower


def _pairs(marks: Marks) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of all marks beside each other, so near that the second may follow the first."""
    first = np.searchsorted(marks.left, marks.left, "right")
    end = np.searchsorted(marks.left, marks.right + marks.tall.max(), "right")  # no gap is wider than a letter is tall
    counts = np.maximum(end - first, 0)
    one = np.repeat(np.arange(len(marks)), counts)
    other = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts) + first[one]
    return one, other


def _similar(here: Values, there: Values) -> Mask:
    alike: Mask = np.maximum(here, there) <= 2 * np.minimum(here, there)
    return alike


def _reads(row: Marks) -> bool:
    """Say whether a row of marks varies as letters do: one baseline, many shapes, uneven steps."""
    tall, fill, wide = float(np.median(row.tall)), row.fill, row.wide
    on_line = (np.abs(row.bottom - np.median(row.bottom)) <= max(1.0, 0.12 * tall)).mean()
    variety = np.abs(np.diff(wide)).mean() / tall + np.abs(np.diff(fill)).mean()
    steps = np.diff(row.left + row.right)
    even = steps.std() < 0.06 * steps.mean()  # dots and windows
    return bool(
        on_line >= 0.6 and variety >= 0.15 and not even and np.median(fill) <= 0.75 and np.median(wide) >= 0.3 * tall
    )
