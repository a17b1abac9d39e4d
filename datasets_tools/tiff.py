"""TIFF files that Pillow opens as something else than what they show; they are refused rather than trained on."""

from PIL.TiffImagePlugin import TiffImageFile

from datasets_tools.errors import UnreadableImage

__all__ = ["refuse_misread"]

_NEW_SUBFILE_TYPE, _BITS, _INTERPRETATION, _PLANES, _SUB_IFDS, _DNG_VERSION = 254, 258, 262, 284, 330, 50706
_REDUCED = 1
_WHITE_IS_ZERO = 0
_APART = 2


def refuse_misread(image: TiffImageFile, name: str) -> None:
    """Raise UnreadableImage for a raw photo, of which only the preview is read, and for layouts that are misread."""
    tags = image.tag_v2
    is_preview = tags.get(_NEW_SUBFILE_TYPE, 0) == _REDUCED and _SUB_IFDS in tags
    if is_preview or _DNG_VERSION in tags:
        raise UnreadableImage(
            f"{name} is a raw photo of a camera, of which only a small preview could be read",
            hint="develop it in a photo program and export it as JPEG or PNG",
        )
    bits = max(tags.get(_BITS, (1,)))
    negative = bits == 16 and tags.get(_INTERPRETATION) == _WHITE_IS_ZERO  # read without turning it round
    apart = bits == 16 and tags.get(_PLANES) == _APART and image.tile and image.tile[0][0] == "raw"  # read as 8 bits
    if bits == 12 or negative or apart:  # 12 bits are read as 16, so as near black
        raise UnreadableImage(
            f"{name} is a TIFF of a rare kind that would be read with wrong colours",
            hint="export it again from the original, with 8 bits per channel and no special options",
        )
