"""Words from the pixels: layout and colours, measured and never guessed; what is shown stays unsaid.

"wide picture, single motif in the middle on a plain white background, orange and dark blue". The words say what varies
between the pictures of one style, so that it is not learned as part of the style.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.caption import Captioner
from datasets_tools.errors import UnreadableImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from datasets_tools.palette import Palette, Rgb

__all__ = ["captioner", "describe"]

_SIDE = 256  # pixels of the shorter side looked at
_MAP = 96  # pixels of the longer side of the map of what is not background
_FRAME = 0.04  # of the shorter side: what counts as the edge of the picture
_ALIKE = 0.08  # in Oklab: background with JPEG noise and a light vignette
_PLAIN = 0.92  # of the edge has one colour; a motif may touch it somewhere
_SINGLE = 0.8  # of what is not background hangs together
_BUSY = 0.12  # of neighbouring pixels differ visibly
_COLOUR = 0.10  # of the motif has a colour for it to be named
_MOST_COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class _FromPixels:
    name: str = "palette"

    def caption(self, file: Path) -> str:
        from datasets_tools.image import open_picture

        try:
            return describe(open_picture(file, at_least=_SIDE).image)
        except UnreadableImage:  # the scan of the folder reports it, with what to do
            return ""


def captioner() -> Captioner:
    """Return the captioner that names layout and colours."""
    return _FromPixels()


def describe(image: "Image") -> str:
    """Return the layout and the colours of an upright RGB picture in words."""
    import numpy as np
    from PIL.Image import Resampling

    from datasets_tools.palette import colour_name, oklab, palette_of

    scale = min(1.0, _MAP / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image.resize(size, Resampling.NEAREST))  # averages would make grain look plain
    places = oklab(small)
    ground = _background(small, places)
    if ground is None:
        return ", ".join([f"{_fullness(places)}{_shape(image.size)} filled to the edges", _listed(palette_of(image))])
    motif = np.linalg.norm(places - oklab(np.array(ground)), axis=-1) > _ALIKE
    if motif.mean() < 0.002:
        return f"{_shape(image.size)}, plain {colour_name(ground)} all over"
    layout = f"{_motifs(motif)} on a plain {colour_name(ground)} background"
    return ", ".join([_shape(image.size), layout, _listed(_colours_of(small[motif]))])


def _shape(size: tuple[int, int]) -> str:
    across = size[0] / size[1]
    return "wide picture" if across >= 1.2 else "tall picture" if across <= 1 / 1.2 else "square picture"


def _background(pixels: "NDArray[np.uint8]", places: "NDArray[np.float64]") -> "Rgb | None":
    """Return the one colour along the edges of the picture; None where there are several."""
    import numpy as np

    deep = max(1, round(_FRAME * min(pixels.shape[:2])))
    edge = np.ones(pixels.shape[:2], np.bool_)
    edge[deep:-deep, deep:-deep] = False
    middle = np.median(places[edge], axis=0)
    alike = np.linalg.norm(places[edge] - middle, axis=-1) <= _ALIKE
    if alike.mean() < _PLAIN:
        return None
    red, green, blue = np.median(pixels[edge][alike], axis=0).astype(int).tolist()
    return red, green, blue


def _fullness(places: "NDArray[np.float64]") -> str:
    import numpy as np

    steps = [np.linalg.norm(np.diff(places, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    return "busy " if (np.concatenate(steps) > _ALIKE).mean() >= _BUSY else ""


def _motifs(motif: "NDArray[np.bool_]") -> str:
    """Say whether what stands out is one thing, and where its middle is."""
    import numpy as np
    from scipy import ndimage

    labels, _ = ndimage.label(ndimage.binary_dilation(motif, iterations=2))  # parts two pixels apart belong together
    sizes = np.bincount(labels[motif])
    if sizes.max() < _SINGLE * sizes.sum():
        return "several separate motifs"
    rows, columns = np.nonzero(motif)
    down = (rows.min() + rows.max() + 1) / 2 / motif.shape[0]
    across = (columns.min() + columns.max() + 1) / 2 / motif.shape[1]
    vertical = "top" if down < 0.38 else "bottom" if down > 0.62 else ""
    horizontal = "left" if across < 0.38 else "right" if across > 0.62 else ""
    place = f"at the {' '.join(filter(None, (vertical, horizontal)))}" if vertical or horizontal else "in the middle"
    return f"single motif {place}"


def _colours_of(pixels: "NDArray[np.uint8]") -> "Palette":
    from PIL import Image

    from datasets_tools.palette import palette_of

    return palette_of(Image.fromarray(pixels.reshape(1, -1, 3)))


def _listed(palette: "Palette") -> str:
    """Return the names of the main colours, each once: "orange, white and dark blue"."""
    from datasets_tools.palette import colour_name

    shares: dict[str, float] = {}
    for rgb, share in palette:
        shares[colour_name(rgb)] = shares.get(colour_name(rgb), 0.0) + share
    main = [name for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= _COLOUR]
    return _joined(main[:_MOST_COLOURS] or list(shares)[:1])


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
