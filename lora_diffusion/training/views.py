"""The ways in which a picture is looked at: as it is, mirrored, with slightly other colours.

They are few and fixed, so that each is encoded once and kept like any picture; which of them a step sees is drawn.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PLAIN", "View", "applied", "views_of"]

# A picture has 3 changed colourings beside its own: with a mirror 8 encodings, which a small style set can afford.
_COLOURINGS = 3


@dataclass(frozen=True, kw_only=True)
class View:
    """How a rendered picture is changed. `colours` are factors of brightness, contrast and saturation."""

    flip: bool = False
    colours: tuple[float, float, float] = (1.0, 1.0, 1.0)


PLAIN = View()


def views_of(sha256: str, *, flip: bool, colour_jitter: float) -> tuple[View, ...]:
    """Return the views of a picture, the unchanged one first.

    Its colourings depend on its content alone, so that runs with other seeds find them encoded.
    """
    colourings = [PLAIN.colours]
    if colour_jitter:
        colourings += [_colours(sha256, number, colour_jitter) for number in range(_COLOURINGS)]
    return tuple(
        View(flip=each, colours=colours) for each in ((False, True) if flip else (False,)) for colours in colourings
    )


def applied(view: View, image: "Image") -> "Image":
    """Return an RGB image as the view shows it."""
    from PIL import ImageEnhance, ImageOps

    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind, factor in zip(kinds, view.colours, strict=True):
        if factor != 1:
            image = kind(image).enhance(factor)
    return ImageOps.mirror(image) if view.flip else image


def _colours(sha256: str, number: int, strength: float) -> tuple[float, float, float]:
    import torch

    from lora_diffusion.seeds import generator

    drawn = torch.rand(3, generator=generator(0, sha256, number, "colours"), dtype=torch.float64)
    brightness, contrast, saturation = (round(1 + strength * (2 * each - 1), 4) for each in drawn.tolist())
    return brightness, contrast, saturation
