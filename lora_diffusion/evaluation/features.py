"""Fixed measurements of one picture: colours, texture, fine detail, lines, layout. Nothing here was trained.

Pictures are uint8 arrays [height, width, 3] in sRGB. Each is measured at no more than 256 pixels a side, so that it
costs some 10 ms; drawn and given pictures have the same size when they come here.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "Array", "Pixels", "colours", "detail", "layout", "lines", "texture"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]

COLOURS = 144
"""Samples of a palette: the exact earth mover's distance of two such takes 1 ms."""

_SIDE = 256
_FILTERS, _FILTER_SIDE = 24, 7
_BANDS = 8
_ANGLES = 8
_GRID = 16
_LEAST_POWER = 1e-8  # of one grey level in a smooth picture; below it is rounding


def colours(picture: Pixels) -> Array:
    """Return so many colours of a picture, spread evenly over its area, [COLOURS, 3] in Oklab."""
    from datasets_tools.palette import oklab

    height, width = picture.shape[:2]
    side = round(COLOURS**0.5)
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(int) for length in (height, width))
    return oklab(_blocks(picture, side) if min(height, width) >= 4 * side else picture[rows][:, columns].reshape(-1, 3))


def texture(picture: Pixels) -> Array:
    """Return the logarithms of how a fixed bank of random filters answers: means and the pairwise products (Gram).

    Random filters carry most of the texture statistics that trained ones do (Ustyuzhaninov et al. 2017).
    """
    from scipy.signal import fftconvolve

    grey = _lab(picture).transpose(2, 0, 1)[:, None]
    answers = np.maximum(fftconvolve(grey, _bank(), mode="valid", axes=(2, 3)).sum(axis=0), 0)
    flat = answers.reshape(_FILTERS, -1)
    gram = flat @ flat.T / flat.shape[1]
    upper = gram[np.triu_indices(_FILTERS)]
    return np.log(np.concatenate([flat.mean(axis=1) ** 2, upper]) + _LEAST_POWER * 1e2)


def detail(picture: Pixels) -> Array:
    """Return the logarithm of the power in octave-like bands of frequency, from coarse to fine, and their slope.

    The slope of natural photographs is about -2 (Field 1987); flat graphics, film grain and blur differ from it.
    """
    light = _lab(picture)[..., 0]
    window = np.outer(np.hanning(light.shape[0]), np.hanning(light.shape[1]))
    power = np.abs(np.fft.fft2((light - light.mean()) * window)) ** 2 / light.size**2
    rows, columns = (np.fft.fftfreq(length)[:, None] for length in light.shape)
    frequency = np.hypot(rows, columns.T)
    edges = np.geomspace(1 / 32, 0.5, _BANDS + 1)
    bands = [power[(frequency >= low) & (frequency < high)] for low, high in pairwise(edges)]
    heights = np.log10(np.array([band.mean() if band.size else 0.0 for band in bands]) + _LEAST_POWER * 1e-4)
    slope = np.polyfit(np.log10(np.sqrt(edges[:-1] * edges[1:])), heights, 1)[0]
    return np.append(heights, slope)


def lines(picture: Pixels) -> Array:
    """Return what the edges are like: directions, share of the area, mean and greatest strength, how straight."""
    from scipy.ndimage import gaussian_filter, sobel

    light = _lab(picture)[..., 0]
    across, along = sobel(light, 1), sobel(light, 0)
    strength = np.hypot(across, along)
    angle = np.mod(np.arctan2(along, across), np.pi)
    directions, _ = np.histogram(angle, _ANGLES, (0, np.pi), weights=strength)
    directions = directions / max(directions.sum(), 1e-9)
    xx, yy, xy = (gaussian_filter(each, 2.0) for each in (across**2, along**2, across * along))
    straight = np.hypot(xx - yy, 2 * xy).sum() / max((xx + yy).sum(), 1e-9)  # coherence of the structure tensor
    amounts = [(strength > level).mean() for level in (0.1, 0.3, 1.0)]
    return np.concatenate([directions, np.sqrt(amounts), [strength.mean(), np.quantile(strength, 0.98), straight]])


def layout(picture: Pixels) -> Array:
    """Return where the edges are on a grid of 16 x 16, without mean, of unit length: what is drawn, whatever its style.

    Half the squared distance of two is 1 minus their correlation: 0 for a copy. From pictures of the demo style
    papercut plain drawings are 0.42 away and drawings as blueprints 0.43; by lightness alone it would be 0.33 and 1.15.
    """
    from PIL import Image
    from PIL.Image import Resampling
    from scipy.ndimage import gaussian_filter, sobel

    light = _lab(picture)[..., 0]
    light = gaussian_filter(light, max(light.shape) / 128)  # without the grain of a paper
    strength = np.hypot(sobel(light, 0), sobel(light, 1)).astype(np.float32)
    cells = Image.fromarray(strength).resize((_GRID, _GRID), Resampling.BOX)
    edges = np.sqrt(np.asarray(cells, np.float64)).ravel()
    edges -= edges.mean()
    length = float(np.linalg.norm(edges))
    return edges / length if length > 1e-6 else edges


@cache
def _bank() -> Array:
    """Filters [3, n, side, side] without a mean, of unit length: they answer to structure, not to a ground's colour."""
    draw = np.random.default_rng(20)  # any number does; it is a part of what the figures mean
    filters = draw.standard_normal((_FILTERS, 3, _FILTER_SIDE, _FILTER_SIDE))
    filters -= filters.mean(axis=(2, 3), keepdims=True)
    filters /= np.linalg.norm(filters.reshape(_FILTERS, -1), axis=1)[:, None, None, None]
    return filters.transpose(1, 0, 2, 3)


def _lab(picture: Pixels) -> Array:
    from datasets_tools.palette import oklab

    return oklab(picture if max(picture.shape[:2]) <= _SIDE else _resized(picture, _SIDE))


def _blocks(picture: Pixels, side: int) -> Pixels:
    """Return every fourth pixel of a small picture: noise averages out there, and few colours mix those of edges."""
    small = _resized(picture, 4 * side)
    return small[1::4, 1::4].reshape(-1, 3)


def _resized(picture: Pixels, side: int) -> Pixels:
    from PIL import Image
    from PIL.Image import Resampling

    return np.asarray(Image.fromarray(picture).resize((side, side), Resampling.BOX))
