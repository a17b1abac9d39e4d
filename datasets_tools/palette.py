"""The few colours that a picture, or a whole set of pictures, consists of, and their everyday names.

Likeness is distance in Oklab (Ottosson 2020, "A perceptual color space for image processing"), where 0.02 is just
visible and black and white are 1 apart.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Quantize, Resampling

__all__ = ["Palette", "Rgb", "SetPalette", "colour_name", "merged", "oklab", "palette_of"]

Rgb = tuple[int, int, int]
Palette = tuple[tuple[Rgb, float], ...]

_SIDE = 96  # pixels of the longer side: 9,216 samples put a share within half a percent
_CANDIDATES = 64
_ALIKE = 0.07  # closer colours are shades of one: highlights, noise, the rings of a JPEG
_LEAST = 0.005  # of the area; below it are the mixed pixels of edges

_NAMES: dict[str, Rgb] = {
    "black": (12, 12, 14),
    "dark grey": (70, 70, 72),
    "grey": (128, 128, 128),
    "light grey": (195, 195, 195),
    "white": (252, 252, 252),
    "cream": (250, 240, 210),
    "beige": (220, 200, 165),
    "light brown": (180, 130, 85),
    "brown": (125, 75, 40),
    "dark brown": (65, 40, 22),
    "dark red": (120, 15, 25),
    "red": (220, 35, 35),
    "coral": (245, 120, 100),
    "orange": (245, 140, 25),
    "yellow": (250, 220, 45),
    "light yellow": (250, 240, 150),
    "olive": (125, 125, 40),
    "light green": (160, 220, 140),
    "green": (50, 165, 65),
    "dark green": (20, 75, 40),
    "turquoise": (70, 205, 190),
    "teal": (15, 125, 125),
    "light blue": (155, 205, 240),
    "blue": (40, 95, 220),
    "dark blue": (20, 35, 100),
    "lavender": (195, 180, 235),
    "purple": (125, 55, 165),
    "dark purple": (65, 25, 85),
    "magenta": (220, 45, 160),
    "pink": (250, 175, 195),
}


def palette_of(image: Image.Image, count: int = 6) -> Palette:
    """Return up to `count` dominant colours of an RGB picture with their share of its area, the largest first.

    The shares sum to 1 only where nothing was left out.
    """
    scale = min(1.0, _SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.convert("RGB").resize(size, Resampling.NEAREST)  # averages would be colours that are not there
    reduced = small.quantize(_CANDIDATES, Quantize.FASTOCTREE)  # the others take 10 ms, whatever the size
    colours = np.asarray(reduced.getpalette("RGB"), np.float64).reshape(-1, 3)
    shares = np.bincount(np.asarray(reduced).ravel(), minlength=len(colours))[: len(colours)] / (size[0] * size[1])
    return _clustered(colours, shares, count)


class SetPalette:
    """The palette of a set of pictures, each of which counts alike whatever its size; its memory is bounded."""

    def __init__(self) -> None:
        self._pictures = 0
        self._sums: dict[Rgb, NDArray[np.float64]] = {}  # cell of 8 levels -> share, and red, green, blue times share

    def add(self, palette: Palette) -> None:
        """Let one more picture count."""
        self._pictures += 1
        for (red, green, blue), share in palette:
            row = np.array((share, red * share, green * share, blue * share))
            cell = (red >> 3, green >> 3, blue >> 3)
            self._sums[cell] = self._sums[cell] + row if cell in self._sums else row

    def palette(self, count: int = 8) -> Palette:
        """Return up to `count` colours with their share, the largest first."""
        if not self._sums:
            return ()
        rows = np.array(list(self._sums.values()))
        return _clustered(rows[:, 1:] / rows[:, :1], rows[:, 0] / self._pictures, count)


def merged(palettes: Iterable[Palette], count: int = 8) -> Palette:
    """Return the palette of several pictures, each of which counts alike whatever its size."""
    whole = SetPalette()
    for palette in palettes:
        whole.add(palette)
    return whole.palette(count)


def colour_name(rgb: Rgb) -> str:
    """Return the nearest of thirty everyday names, such as "dark blue", "beige" or "teal"."""
    distance = np.linalg.norm(oklab(np.array(list(_NAMES.values()), np.float64)) - oklab(np.array(rgb)), axis=1)
    return list(_NAMES)[int(distance.argmin())]


def oklab(rgb: NDArray[np.generic] | Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return sRGB colours of 0..255, shape [..., 3], in Oklab: lightness 0..1, then green-red and blue-yellow."""
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES)
    lab: NDArray[np.float64] = cones @ _TO_LAB
    return lab


# Columns of the two matrices in Ottosson's article, transposed for row vectors.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ]
)


def _clustered(colours: NDArray[np.float64], shares: NDArray[np.float64], count: int) -> Palette:
    """Let the commonest colour absorb its like, then the next, and so on: clusters cannot chain along a gradient."""
    order = np.argsort(-shares, kind="stable")
    colours, shares = colours[order], shares[order]
    places, free = oklab(colours), shares > 0
    found: list[tuple[Rgb, float]] = []
    for index in range(len(colours)):
        if free[index]:
            away = places - places[index]
            near = free & (np.einsum("ij,ij->i", away, away) <= _ALIKE**2)  # linalg.norm takes four times as long
            free &= ~near
            total = float(shares[near].sum())
            red, green, blue = np.rint(shares[near] @ colours[near] / total).astype(int).tolist()
            found.append(((red, green, blue), total))
    kept = [entry for entry in found if entry[1] >= _LEAST] or found
    return tuple(sorted(kept, key=lambda entry: -entry[1])[:count])
