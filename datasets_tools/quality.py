"""What a look at the pixels says about a picture: blur, compression, frames, lettering, colours."""

from dataclasses import dataclass

from PIL.Image import Image

__all__ = ["Quality", "quality_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Measurements of one picture; thresholds belong to whoever judges them.

    Args:
        blur: 0 (sharp) to 1 (blurred) in the sharpest part of the picture; None where nothing has an edge.
        blockiness: how much more steps stand on an 8-pixel grid than between; 0 is none, None where not measurable.
        border: share of the width or height at (left, top, right, bottom) that is a plain frame or bar.
        lettering: share of the picture's area inside lines that look like text.
        colours: up to six ((red, green, blue), share of the area), the largest share first.
    """

    blur: float | None = None
    blockiness: float | None = None
    border: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    lettering: float = 0.0
    colours: tuple[tuple[tuple[int, int, int], float], ...] = ()


def quality_of(image: Image, detail: Image | None = None) -> Quality:
    """Measure an upright RGB picture, best at about 512 pixels on the shorter side.

    `detail` is a part of the file at its own resolution, before any scaling: blocks of a JPEG are seen only there.
    """
    return Quality()
