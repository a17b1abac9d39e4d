"""Drawing on small float pictures: layers, blur, contours, tones.

A layer is [h, w, 4] float32 in 0..1 with premultiplied colour, a picture [h, w, 3], a mask [h, w]. Only the four basic
operations and square roots are used, which round alike on every processor: a picture comes out the same everywhere.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = [
    "SIDE",
    "Array",
    "Colour",
    "blank",
    "blur",
    "colour",
    "contours",
    "flatten",
    "luma",
    "mix",
    "paste",
    "plain",
    "shifted",
    "smoothstep",
    "to_image",
]

SIDE = 128  # pixels; 16 x 16 latents of the embedded base

Array = NDArray[np.float32]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)


def colour(rgb: Colour) -> Array:
    """Return a colour of 0..255 as floats in 0..1."""
    return np.asarray(rgb, np.float32) / np.float32(255)


def blank() -> Array:
    """Return an empty layer."""
    return np.zeros((SIDE, SIDE, 4), np.float32)


def plain(rgb: Colour) -> Array:
    """Return a picture of one colour."""
    return np.broadcast_to(colour(rgb), (SIDE, SIDE, 3)).copy()


def paste(layer: Array, sprite: Array, x: float, y: float) -> None:
    """Put a sprite over the layer, its centre at (x, y); what lies outside is cut off."""
    height, width = sprite.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, layer.shape[1]), min(top + height, layer.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
    under = layer[y0:y1, x0:x1]
    layer[y0:y1, x0:x1] = part + (1 - part[..., 3:]) * under


def flatten(layer: Array, rgb: Colour = WHITE) -> Array:
    """Return the layer over one colour as a picture."""
    return layer[..., :3] + (1 - layer[..., 3:]) * colour(rgb)


def mix(under: Array, over: Array | Colour, mask: Array) -> Array:
    """Return a picture that is `over` where the mask is 1 and `under` where it is 0."""
    paint = colour(over) if isinstance(over, tuple) else over
    return under + (paint - under) * mask[..., None]


def luma(picture: Array) -> Array:
    """Return the brightness as a mask (Rec. 601)."""
    red, green, blue = np.float32(0.299), np.float32(0.587), np.float32(0.114)
    brightness: Array = picture[..., 0] * red + picture[..., 1] * green + picture[..., 2] * blue
    return brightness


def smoothstep(x: Array, low: float, high: float) -> Array:
    """Rise from 0 at `low` to 1 at `high` without corners."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    risen: Array = t * t * (3 - 2 * t)
    return risen


def blur(x: Array, radius: float) -> Array:
    """Blur a picture or a mask; the radius is in pixels."""
    return _floats(_bytes(x).filter(ImageFilter.GaussianBlur(radius)))


def shifted(mask: Array, right: int, down: int) -> Array:
    """Move a mask by pixels; what leaves at one side comes in at the other."""
    return np.roll(mask, (down, right), (0, 1))


def contours(layer: Array, low: float = 0.10, high: float = 0.30) -> Array:
    """Return a mask of the lines along which colour or silhouette changes (Sobel gradients)."""
    x = np.concatenate([flatten(layer), layer[..., 3:]], axis=-1)
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    half = np.float32(0.5)
    across = x[1:-1, 2:] - x[1:-1, :-2] + half * (x[2:, 2:] - x[2:, :-2] + x[:-2, 2:] - x[:-2, :-2])
    down = x[2:, 1:-1] - x[:-2, 1:-1] + half * (x[2:, 2:] - x[:-2, 2:] + x[2:, :-2] - x[:-2, :-2])
    slope = np.sqrt(across * across + down * down).max(axis=-1) * half
    return smoothstep(slope, low, high)


def to_image(picture: Array) -> Image.Image:
    """Return a float picture in 0..1 as 8-bit RGB."""
    return _bytes(picture)


def _bytes(x: Array) -> Image.Image:
    return Image.fromarray((np.clip(x, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8))


def _floats(image: Image.Image) -> Array:
    return np.asarray(image, np.float32) / np.float32(255)
