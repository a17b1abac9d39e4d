"""What a look at the pixels says about a picture: blur, compression, frames, lettering, colours."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BLOCKY", "BLURRED", "LETTERED", "Quality", "quality_of"]

Sides = tuple[float, float, float, float]

# Measured on generated pictures at 512 pixels: overlapping leaves, 1/f noise, subjects before soft grounds, meadows,
# tiled floors, landscapes, flat shapes and icons, 40 of each.
#
#   as made, or as JPEG 80      0.00 to 0.45    640 pictures, none above 0.5
#   Gaussian blur, radius 3     0.62 to 0.92    320, all above
#   enlarged 4 times            0.55 to 0.85    320, all above
#   the same as JPEG 85         0.47 to 0.82    320, at least 318 above
#
# Enlarged twice is 0.3 to 0.7, so it is not told apart.
BLURRED = 0.5
"""Above it a picture is blurred at its sharpest place."""

# Copies as pixels only, cut off the grid, 30 of each kind: JPEG 15, 25 and 30 are found in all 180 photo-like pictures,
# JPEG 75, 90 and no JPEG in none of 720 cases. In flat shapes on colour JPEG 25 is found in 26 of 30, in icons on white
# in 5 of 30: most of their blocks are empty, or clipped to white.
BLOCKY = 16.0
"""Above it a JPEG of about quality 37 or below has been through."""

# 24 pictures of each of 15 kinds without text: 3 of 360 above, meadows and a halftone. Three words of 16 to 40 pixels
# in 512 are found in 169 of 180 pictures, of 12 pixels in 41 of 60. Slanted lines are not found.
LETTERED = 0.0025
"""Above it there is lettering; three words of 12 pixels in 512 are 0.003."""

_SIDE = 512  # pixels of the shorter side at which everything but blockiness is measured
_AREA = 1_600_000  # and pixels in all, for panoramas


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


def quality_of(image: "Image", detail: "Image | None" = None, shrunk: int = 1) -> Quality:
    """Measure an upright RGB picture, best at about 512 pixels on the shorter side.

    `detail` is a part of the file at its own resolution: blocks of a JPEG are seen only there. `shrunk` is by how much
    the decoder scaled it, as in `Picture`.
    """
    import numpy as np

    from datasets_tools.blur import blur_of
    from datasets_tools.border import border_of
    from datasets_tools.lettering import lettering_of
    from datasets_tools.palette import palette_of

    image = image if image.mode == "RGB" else image.convert("RGB")
    factor = max(min(image.size) // _SIDE, math.ceil(math.sqrt(image.width * image.height / _AREA)), 1)
    image = image.reduce(factor) if factor > 1 else image
    grey = image.convert("L")
    return Quality(
        blur=blur_of(np.asarray(_at_side(grey) if shrunk > 1 else grey).astype(np.int16)),
        blockiness=None if detail is None else _blockiness(detail, shrunk),
        border=border_of(np.asarray(image)),
        lettering=lettering_of(grey),
        colours=palette_of(image),
    )


def _at_side(grey: "Image") -> "Image":
    """Return a picture that the decoder scaled at the side at which BLURRED was measured: larger ones look softer."""
    from PIL.Image import Resampling

    factor = _SIDE / min(grey.size)
    size = (max(1, round(grey.width * factor)), max(1, round(grey.height * factor)))
    return grey.resize(size, Resampling.BOX) if factor < 0.9 else grey


def _blockiness(detail: "Image", shrunk: int) -> float | None:
    import numpy as np

    from datasets_tools.compression import blockiness_of, blockiness_of_means

    grey = detail if detail.mode == "L" else detail.convert("L")
    if shrunk == 1:
        return blockiness_of(np.asarray(grey).astype(np.int16))
    return blockiness_of_means(np.asarray(grey.convert("F").reduce(8 // shrunk)))
