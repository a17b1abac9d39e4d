"""How blurred a picture is where it is sharpest: a portrait before a soft background is a sharp picture."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["blur_of"]

Grey = NDArray[np.int16]

_TILES = 4  # along each side
_TAPS = 5  # of the box that blurs again; longer ones pull 4 x enlargements (ramps of 4 pixels) towards sharp ones
_EDGES = (6, 3)  # grey levels from one pixel to the next: clear edges, and haze where there are none
_ENOUGH = 0.1  # grey levels of edge per pixel of a tile, below which it is plain

_SPAN, _SPREAD, _SHARE = 8, 10, 0.02  # pixels, grey levels, of the area; a ramp across 512 pixels rises by 4 in eight


def blur_of(grey: Grey) -> float | None:
    """Return the re-blur metric of Crete et al. 2007 ("The blur effect") of the sharpest tile with edges."""
    for least in _EDGES:
        across = _reblur(grey[::2], least)
        along = _reblur(np.ascontiguousarray(grey[:, ::2].T), least).transpose(0, 2, 1)
        edges = np.stack([across[0], along[0]])
        kept = np.stack([across[1], along[1]])
        enough = edges >= _ENOUGH
        if enough.any():
            blur = np.where(enough, kept / np.maximum(edges, _ENOUGH), 0).max(axis=0)  # the worse of both directions
            return float(blur[enough.any(axis=0)].min())
    return 1.0 if _soft(grey) else None


def _soft(grey: Grey) -> bool:
    """Say whether there is contrast, but so spread that no two neighbours differ: blurred beyond measuring."""
    spans = (grey[:, _SPAN:] - grey[:, :-_SPAN], grey[_SPAN:] - grey[:-_SPAN])
    return any(span.size > 0 and bool((np.abs(span) >= _SPREAD).mean() >= _SHARE) for span in spans)


def _reblur(grey: Grey, least: int) -> NDArray[np.float64]:
    """Return, per tile, the steps along the rows and what a box of five pixels leaves of them, per pixel.

    A step between neighbours of the blurred row is the difference of the two ends of the box, so it is never computed.
    """
    if grey.shape[0] < _TILES or grey.shape[1] < _TILES + _TAPS:
        return np.zeros((2, _TILES, _TILES))
    steps = np.abs(grey[:, 3:-2] - grey[:, 2:-3])
    steps *= steps >= least  # six times as fast as assigning through a mask
    left = np.minimum(steps, np.abs(grey[:, 5:] - grey[:, :-5]) // _TAPS)
    return np.stack([_per_tile(steps), _per_tile(left)])


def _per_tile(values: Grey) -> NDArray[np.float64]:
    high, wide = values.shape[0] // _TILES, values.shape[1] // _TILES
    tiles = values[: high * _TILES, : wide * _TILES].reshape(_TILES, high, _TILES, wide)
    sums: NDArray[np.float64] = tiles.sum(axis=1, dtype=np.int32).sum(axis=2) / (high * wide)
    return sums
