"""Marks of ink are found and measured as scipy finds and measures them, pixel by pixel."""

import numpy as np
import pytest
from scipy import ndimage

from datasets_tools.marks import Marks, marks_of

DRAW = np.random.default_rng(3)


def measured(ink: np.ndarray, levels: np.ndarray, most: int = 10**9) -> Marks:
    return marks_of(ink, np.concatenate(([0], np.cumsum(levels, dtype=np.int32)), dtype=np.int32), most)


def spiral(side: int = 41) -> np.ndarray:
    """Return one mark that winds through the whole square, so that its runs meet only far away."""
    ink = np.zeros((side, side), bool)
    row, column, step, turn = 0, 0, side - 1, 0
    while step > 0:
        down, across = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(step):
            ink[row, column] = True
            row, column = row + down, column + across
        turn += 1
        step -= 2 * (turn % 2 == 1 and turn > 1)
    return ink


CASES = {
    "nothing": np.zeros((9, 7), bool),
    "all": np.ones((9, 7), bool),
    "one pixel": np.ones((1, 1), bool),
    "checks": np.indices((20, 31)).sum(0) % 2 == 0,
    "comb": np.indices((20, 31))[1] % 2 == 0,
    "comb on a bar": (np.indices((20, 31))[1] % 2 == 0) | (np.indices((20, 31))[0] == 19),
    "spiral": spiral(),
    **{f"noise {share}": DRAW.random((83, 131)) < share for share in (0.1, 0.4, 0.55, 0.6, 0.9)},
    "blobs": ndimage.gaussian_filter(DRAW.random((150, 200)), 2) > 0.52,
}


@pytest.mark.parametrize("name", CASES)
def test_marks_are_those_of_scipy(name):
    ink = CASES[name]
    levels = DRAW.integers(0, 256, ink.shape)
    marks = measured(ink, levels)
    labels, count = ndimage.label(ink)
    assert len(marks) == count
    if not count:
        return
    index = np.arange(1, count + 1)
    boxes = ndimage.find_objects(labels)
    area = ndimage.sum_labels(ink, labels, index)
    np.testing.assert_array_equal(marks.top, [rows.start for rows, _ in boxes])
    np.testing.assert_array_equal(marks.bottom, [rows.stop for rows, _ in boxes])
    np.testing.assert_array_equal(marks.left, [columns.start for _, columns in boxes])
    np.testing.assert_array_equal(marks.right, [columns.stop for _, columns in boxes])
    np.testing.assert_array_equal(marks.area, area)
    np.testing.assert_allclose(marks.contrast, ndimage.mean(levels, labels, index))
    beyond = np.pad(ink, ((0, 1), (0, 1)))
    ends = 2 - beyond[:-1, 1:].astype(int) - beyond[1:, :-1]
    np.testing.assert_allclose(marks.thickness, 2 * area / ndimage.sum_labels(ends, labels, index))


def test_more_marks_than_asked_for_are_none():
    ink = CASES["checks"]
    assert len(measured(ink, ink, most=int(ink.sum()))) == ink.sum()
    assert len(measured(ink, ink, most=int(ink.sum()) - 1)) == 0
