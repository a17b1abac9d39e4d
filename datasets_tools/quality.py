"""What a look at the pixels says about a picture: blur, compression, frames, lettering, colours."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BLOCKY", "BLURRED", "LETTERED", "Quality", "quality_of"]

Sides = tuple[float, float, float, float]

BLURRED = 0.5
BLOCKY = 16.0
LETTERED = 0.0025

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


def quality_of(image: "Image", detail: "Image | None" = None) -> Quality:
    """Measure an upright RGB picture, best at about 512 pixels on the shorter side.

    `detail` is a part of the file at its own resolution, before any scaling: blocks of a JPEG are seen only there.
    """
    import numpy as np

    from datasets_tools.blur import blur_of
    from datasets_tools.border import border_of
    from datasets_tools.compression import blockiness_of
    from datasets_tools.lettering import lettering_of
    from datasets_tools.palette import palette_of

    image = image.convert("RGB")
    factor = max(min(image.size) // _SIDE, math.ceil(math.sqrt(image.width * image.height / _AREA)), 1)
    image = image.reduce(factor) if factor > 1 else image
    grey = image.convert("L")
    return Quality(
        blur=blur_of(np.asarray(grey).astype(np.int16)),
        blockiness=None if detail is None else blockiness_of(np.asarray(detail.convert("L")).astype(np.int16)),
        border=border_of(np.asarray(image)),
        lettering=lettering_of(grey),
        colours=palette_of(image),
    )
