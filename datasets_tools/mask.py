"""Which part of a picture counts: its transparency, or a grey picture of the same name in another folder."""

import unicodedata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datasets_tools.errors import InvalidSetting
from datasets_tools.sniff import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["load_alpha", "load_mask", "mask_files", "mask_name"]

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def load_alpha(path: Path | str) -> "Image | None":
    """Return the alpha channel of a picture, upright and in mode L; None where nothing in it is transparent.

    It is read off the picture on black and on white, so that every way in which a file can be transparent (palettes, 16
    bits, tagged colours) and every orientation is what the image loader makes of it. Values between 0 and 255 may be
    off by one. Raises UnreadableImage.
    """
    from PIL import ImageChops

    from datasets_tools.image import open_picture, read_bytes

    data, name = read_bytes(path), str(path)
    on_white = open_picture(data, background=_WHITE, name=name)
    if "transparent" not in on_white.notes:
        return None
    on_black = open_picture(data, background=_BLACK, name=name)
    shining_through = ImageChops.subtract(on_white.image, on_black.image)
    return ImageChops.invert(shining_through.getchannel("G"))


def load_mask(path: Path | str) -> "Image":
    """Return a mask as it was drawn, upright and in mode L: white counts, black does not. Raises UnreadableImage.

    Transparent parts are black: a mask is painted in white on nothing more often than the other way round, and the
    other way round is then all black, which is noticed.
    """
    from datasets_tools.image import load_image

    return load_image(path, background=_BLACK).convert("L")


def mask_files(folder: Path | str) -> dict[str, Path]:
    """Return the pictures of a folder and below by `mask_name`.

    Raises InvalidSetting where the folder is missing or two files claim one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InvalidSetting(f"the folder of masks {root} does not exist", hint="check the path and its spelling")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
            continue
        first = found.setdefault(mask_name(path.relative_to(root).as_posix()), path)
        if first != path:
            raise InvalidSetting(f"{first} and {path} are masks of the same picture", hint="keep one of them")
    return found


def mask_name(file: str) -> str:
    """Return what a picture and its mask have in common: the relative name (POSIX) without a picture's suffix."""
    path = PurePosixPath(unicodedata.normalize("NFC", file))
    return str(path.with_suffix("") if path.suffix.lower() in PICTURE_SUFFIXES else path)
