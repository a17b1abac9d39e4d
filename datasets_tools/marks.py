"""Connected marks of ink, measured through their runs: the unbroken stretches of ink along a row.

There are several times fewer runs than pixels, and nothing here needs scipy, whose import takes a worker process longer
than five camera pictures.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Marks", "marks_of"]

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Connected marks of ink as parallel arrays: boxes in pixels, the ink's area, contrast and thickness."""

    left: Values
    top: Values
    right: Values
    bottom: Values
    area: Values
    contrast: Values
    thickness: Values

    @property
    def wide(self) -> Values:
        return self.right - self.left

    @property
    def tall(self) -> Values:
        return self.bottom - self.top

    @property
    def fill(self) -> Values:
        return self.area / (self.wide * self.tall)

    def __len__(self) -> int:
        return len(self.left)

    def take(self, which: "Mask | Places | list[int]") -> "Marks":
        return Marks(**{name: getattr(self, name)[which] for name in self.__dataclass_fields__})


def marks_of(ink: Mask, contrast: NDArray[np.int32], most: int) -> Marks:
    """Return the marks of a mask, connected along rows and columns; none where there are more than `most`.

    `contrast` holds the running sum of what each pixel differs from its surroundings, row by row, from 0 on: one more
    than there are pixels. Thickness is twice the area by the number of ends to the right and below, of which a stroke
    of any direction has about two for each unit of its length.
    """
    row = ink.shape[1] + 1
    starts, ends = _runs(ink)
    upper, lower = _touching(starts, ends, row)
    owner, count = _components(len(starts), upper, lower)
    if count > most:
        starts, ends, upper, lower, owner, count = *(np.zeros(0, np.intp),) * 5, 0
    shared = np.minimum(ends[upper] + row, ends[lower]) - np.maximum(starts[upper] + row, starts[lower])
    rows, length = starts // row, ends - starts
    first = starts - rows  # in the picture, which lacks the column between two rows
    area = np.bincount(owner, length, count).astype(np.float64)
    left, top, right, bottom = _boxes(owner, count, rows, starts - rows * row, length)
    return Marks(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        area=area,
        contrast=np.bincount(owner, contrast[first + length] - contrast[first], count) / area,
        thickness=2 * area / (np.bincount(owner, minlength=count) + area - np.bincount(owner[upper], shared, count)),
    )


def _boxes(owner: Places, count: int, rows: Places, left: Places, length: Places) -> Values:
    """Return left, top, right and bottom of so many marks, shape [4, count], from the runs that each owns."""
    boxes = np.zeros((4, count), np.intp)  # as the runs' places: mixed kinds of numbers take ufunc.at ten times as long
    boxes[0] = np.iinfo(np.intp).max
    np.minimum.at(boxes[0], owner, left)
    np.maximum.at(boxes[2], owner, left + length)
    boxes[1][owner[::-1]] = rows[::-1]  # runs come row by row, and the last one assigned stays
    boxes[3][owner] = rows + 1
    return boxes.astype(np.float64)


def _runs(ink: Mask) -> tuple[Places, Places]:
    """Return where runs start and end, counted through rows one longer than the picture's, so that none wraps."""
    height, width = ink.shape
    padded = np.zeros(height * (width + 1) + 1, np.bool_)
    padded[1:].reshape(height, width + 1)[:, :width] = ink
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    return changes[::2], changes[1::2]


def _touching(starts: Places, ends: Places, row: int) -> tuple[Places, Places]:
    """Return all pairs of runs of which the second lies right below the first."""
    first = np.searchsorted(ends, starts + row, "right")
    counts = np.maximum(np.searchsorted(starts, ends + row, "left") - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts) + first[upper]
    return upper, lower


def _components(count: int, one: Places, other: Places) -> tuple[Places, int]:
    """Number the connected components of so many things in the order of their first, given the pairs that touch.

    Everything points to an earlier thing of its component. Each round lets the ends of a pair point to the lower of
    both ends, then follows the pointers to their roots, until no pair has two of them.
    """
    root = np.arange(count)
    while len(one):
        np.minimum.at(root, np.maximum(root[one], root[other]), np.minimum(root[one], root[other]))
        while (root[root] != root).any():
            root = root[root]
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
    firsts = root == np.arange(count)
    return (np.cumsum(firsts) - 1)[root], int(firsts.sum())
