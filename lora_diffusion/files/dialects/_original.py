"""Denoiser paths in the block names of the original layout, `input_blocks_4_1_...`, of any family.

A file does not say which family it is for before it is read, and need not: what Stable Diffusion 1 and XL both have is
spelled alike, except that `output_blocks.2.1` is a transformer in XL and holds the upsampler `conv` in 1.
"""

from functools import cache

from lora_diffusion.families.names import dotted_or_none, namings, underscored
from lora_diffusion.families.sgm import SgmNames

__all__ = ["from_original", "known_path"]


@cache
def _four_levels() -> SgmNames:
    """Stable Diffusion 1 and 2: the lowest of the four levels has no transformers."""
    return SgmNames(layers=2, attention=(False, True, True, True))


def from_original(path: str) -> str | None:
    """Return the dotted path in diffusers of an underscored one, in whichever layout, or None for neither."""
    # the four levels first: they alone know output_blocks_2_1_conv as a whole
    found = _four_levels().read(path)
    return found or next((each for names in namings() if (each := names.from_kohya(path))), None)


def known_path(component: str, path: str) -> str | None:
    """Return a dotted path in the words of diffusers, or None where it is none of a UNet or CLIP in either layout."""
    if dotted_or_none(underscored(path)) == path:
        return path
    return from_original(underscored(path)) if component == "denoiser" else None
