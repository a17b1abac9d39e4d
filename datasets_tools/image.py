"""The single image loader: from any file people have to upright sRGB pixels, with limits checked before decoding.

Every picture of the product is read here. What peers get wrong, and this does not: orientation (sd-scripts 1316),
colour profiles and CMYK, 16-bit greys (`convert` clips them to white), hidden colours under transparent pixels, and
decompression bombs (Pillow itself only refuses above 179 million pixels).
"""

import ctypes
import io
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging, features
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as ExifTag
from PIL.Image import Resampling, Transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from datasets_tools.bucket import Crop
from datasets_tools.colours import ADOBE_RGB, Colour, eight_bit, on_background, split_alpha, to_srgb
from datasets_tools.errors import UnreadableImage
from datasets_tools.sniff import NOT_A_PICTURE, is_other, refusal
from datasets_tools.storage import human_bytes
from datasets_tools.tiff import refuse_misread

__all__ = [
    "DEFAULT_LIMITS",
    "FORMATS",
    "WHITE",
    "Colour",
    "Limits",
    "Picture",
    "load_image",
    "open_picture",
    "read_bytes",
    "read_size",
    "render",
    "to_pixels",
]

# Pillow enables 43 formats, among them EPS, which starts Ghostscript. These are the ones that hold pictures of a look.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", *(("AVIF",) if features.check("avif") else ()))

WHITE: Colour = (255, 255, 255)

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# The luminance table of ITU-T T.81, Annex K.1, in any order: the IJG library scales it by its quality setting.
_LUMINANCE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
_SCALES = np.array([5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)])
_SUMS = np.clip((_LUMINANCE * _SCALES[:, None] + 50) // 100, 1, 255).sum(axis=1)  # of the table, by quality from 1 on
_DETAIL_SIDE = 512
_LARGE = 64_000_000  # bytes: what is no picture is not read whole from here on
_SHRUNK = (8, 4, 2)  # by which libjpeg can scale while it decodes
_FILLED = 4  # last rows of a JPEG that are looked at
_FARTHEST = 4  # times the size asked for, from which on it does: a block of 8 x 8 is then two pixels at most
_LOST = 0.75  # at least so much of the whole reduction stays: 7 is done as 2 x 3 rather than 4, 5 as 4
# warnings.catch_warnings changes the whole process, so only one thread at a time may read a header.
_HEADER = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused from the header, before any pixel is decoded.

    64 million pixels cover the largest cameras in common use and are 192 MB as RGB; 16,384 is the longest side that
    common graphics programs open.
    """

    max_pixels: int = 64_000_000
    max_side: int = 16_384
    max_bytes: int = 600_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded image with what was noticed on the way.

    `image` is RGB and upright; `size` is the upright (width, height) of the file in pixels, also where `image` was
    reduced. `notes` are codes: animated, transparent, sixteen-bit, exif-broken, icc-broken, cmyk-without-profile,
    cut-short.
    `orientation` is the EXIF value, 1 to 8, that was applied. `jpeg_quality` is the setting (1 to 100) at which the
    IJG library writes quantisation tables like those of the file; None for other formats. `detail` is the middle of the
    decoded pixels, at most 512 x 512, as luma (mode L), neither reduced nor turned; only where `at_least` was given.
    `shrunk` is by how much the decoder scaled the sides: 1, or 2, 4 or 8 for a JPEG far above `at_least`.
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    notes: tuple[str, ...]
    orientation: int = 1
    jpeg_quality: int | None = None
    detail: Image.Image | None = None
    shrunk: int = 1


def load_image(
    path_or_bytes: Path | str | bytes, *, background: Colour = WHITE, limits: Limits = DEFAULT_LIMITS
) -> Image.Image:
    """Return the picture as upright sRGB in mode RGB; transparent parts show `background`.

    Animated files give their first frame. Raises UnreadableImage, which says what the file really is.
    """
    return open_picture(path_or_bytes, background=background, limits=limits).image


def open_picture(
    path_or_bytes: Path | str | bytes,
    *,
    background: Colour = WHITE,
    limits: Limits = DEFAULT_LIMITS,
    at_least: int | None = None,
    name: str = "",
) -> Picture:
    """Decode the file in full and return it with notes. Raises UnreadableImage.

    With `at_least` the result is reduced to a shorter side of at least that many pixels: a JPEG far above it while it
    is decoded, which takes two thirds of the time at 12 megapixels, anything else afterwards. Every code of the file is
    read all the same, so the same files are refused. `name` is what errors call the picture.
    """
    data = path_or_bytes if isinstance(path_or_bytes, bytes) else read_bytes(path_or_bytes, limits)
    name = name or ("the picture" if isinstance(path_or_bytes, bytes) else str(path_or_bytes))
    with _opened(name, data, limits) as image, _explained(name, data, limits):
        if image.format == "PNG":
            _verify_checksums(data)
        stored = image.tag_v2.get(ExifTag.Orientation, 1) if isinstance(image, TiffImageFile) else 1
        deep = any(_is_deep(tile[3]) for tile in getattr(image, "tile", ()) if image.mode in {"RGB", "RGBA", "LA"})
        told = image.size
        shrunk = _shrunk(image, at_least)
        image.load()
        notes = ["cut-short"] if _ends_grey(image) else []
        if deep:  # Pillow reads these as 8 bits; greys come with 16 and are scaled below
            notes.append("sixteen-bit")
        if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a photo with its depth map
            notes.append("animated")
        turn = _turn(image, notes)
        size = image.size if shrunk == 1 else told
        size = size if turn < 5 else size[::-1]
        detail = None if at_least is None else _detail(image, name, 8 // shrunk if shrunk > 1 else 1)
        upright = _reduced(image, at_least)
        if turn > 1:
            upright = upright.transpose(_TURNS[turn])
        profile = image.info.get("icc_profile")
        colours, alpha = split_alpha(eight_bit(upright, name, notes))
        colours = to_srgb(colours, profile or _camera_profile(image), notes)
        return Picture(
            image=on_background(colours, alpha, background, notes),
            size=size,
            format="JPEG" if image.format == "MPO" else str(image.format),
            notes=tuple(notes),
            orientation=stored if stored in _TURNS else turn,
            jpeg_quality=_jpeg_quality(image),
            detail=detail,
            shrunk=shrunk,
        )


def read_size(path: Path | str, limits: Limits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Return the upright (width, height) in pixels without decoding. Raises UnreadableImage."""
    name, data = str(path), read_bytes(path, limits)
    with _opened(name, data, limits) as image, _explained(name, data, limits):
        if image.format == "PNG" and "exif" not in image.info:
            image.info["exif"] = _late_exif(data)
        return image.size if _turn(image, []) < 5 else image.size[::-1]


def read_bytes(path: Path | str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of an image file. Raises UnreadableImage when it is missing, closed or beyond the limit."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UnreadableImage(f"{path} cannot be read: it is not a file", hint=NOT_A_PICTURE)
        if status.st_size > limits.max_bytes:
            raise UnreadableImage(
                f"{path} is {human_bytes(status.st_size)} large, above the limit of {human_bytes(limits.max_bytes)}",
                hint="export it as JPEG or PNG at the size you train at",
            )
        with path.open("rb") as file:
            head = file.read(4096)
            if status.st_size > _LARGE and is_other(head):  # layered documents of 500 MB, one for each core
                raise refusal(str(path), head, ValueError(), FORMATS)
            file.seek(0)
            return file.read()
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path} does not exist", hint="check the path") from error
    except OSError as error:
        raise UnreadableImage(
            f"{path} cannot be read: {error.strerror or error}", hint="allow reading it, or copy it again"
        ) from error


def render(image: Image.Image, crop: Crop) -> Image.Image:
    """Return the crop of the image, resized with Lanczos in one pass (only the pixels inside the box are computed)."""
    across, along = image.width / crop.resized[0], image.height / crop.resized[1]
    left, top, right, bottom = crop.box
    box = (left * across, top * along, min(right * across, image.width), min(bottom * along, image.height))
    # a gap of 3 is, by Pillow's documentation, almost indistinguishable from none, and several times faster
    return image.resize(crop.size, Resampling.LANCZOS, box=box, reducing_gap=3.0)


def to_pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return the RGB image as float32 of shape [3, height, width] in -1..1."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _opened(name: str, data: bytes, limits: Limits) -> Iterator[Image.Image]:
    with _explained(name, data, limits):
        image = _header(data, FORMATS)
    with image:
        _check_size(name, image.size, limits)
        if isinstance(image, TiffImageFile):
            _silence_libtiff()
            with _explained(name, data, limits):
                refuse_misread(image, name)
        yield image


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing to the terminal what Pillow raises as an error anyway; Pillow stops only warnings."""
    with suppress(OSError, AttributeError):  # where its functions are linked in without their names, it prints on
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def _header(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    with _HEADER, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # it warns of what is refused or noted here anyway
        return Image.open(io.BytesIO(data), formats=formats)


def _check_size(name: str, size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels or max(size) > limits.max_side:
        raise _too_large(name, f"{width} x {height} pixels", limits)


def _too_large(name: str, size: str, limits: Limits) -> UnreadableImage:
    return UnreadableImage(
        f"{name} has {size}; at most {limits.max_pixels:,} in all and {limits.max_side:,} per side are read",
        hint="scale it down: training uses far fewer pixels",
    )


@contextmanager
def _explained(name: str, data: bytes, limits: Limits) -> Iterator[None]:
    """Turn whatever a decoder raises on broken data into one sentence that says what the file is."""
    try:
        yield
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "too many pixels", limits) from error
    except MemoryError as error:
        raise UnreadableImage(f"{name} does not fit into memory", hint="scale it down", passing=True) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more on bad bytes
        raise refusal(name, data, error, FORMATS) from error


def _verify_checksums(data: bytes) -> None:
    # decoding skips the checksums of the pixel chunks: a flipped bit would pass as wrong colours
    with _header(data, ("PNG",)) as image:
        image.verify()


def _late_exif(data: bytes) -> bytes:
    """Return the eXIf chunk of a PNG, which some tools (exiftool) write after the pixels; empty if there is none."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"eXIf":
            return b"Exif\0\0" + data[place + 8 : place + 8 + length]
        place += 12 + length
    return b""


def _is_deep(how: object) -> bool:
    """Say whether a tile is decoded from 16 bits per channel, by the name that Pillow has for it: "RGB;16B"."""
    mode = how[0] if isinstance(how, tuple) and how else how
    return str(mode).endswith((";16B", ";16L", ";16N"))


def _ends_grey(image: Image.Image) -> bool:
    """Say whether a JPEG ends in the grey that libjpeg fills in for what is missing, without an error, before its end.

    Copies that broke off and were closed by a repair program look so. One that begins in it lies on a grey ground.
    """
    if not isinstance(image, JpegImageFile) or image.mode != "RGB" or image.height <= _FILLED:
        return False
    begin, end = (image.crop((0, top, image.width, top + _FILLED)) for top in (0, image.height - _FILLED))
    return end.getextrema() == ((128, 128),) * 3 != begin.getextrema()


def _camera_profile(image: Image.Image) -> bytes | None:
    """Return the profile of a photo that states its colours by the DCF standard of cameras alone (Canon's do)."""
    try:
        is_adobe_rgb = image.getexif().get_ifd(IFD.Interop).get(1) == "R03"
    except Exception:  # noqa: BLE001 - a broken tag block, which is noted elsewhere
        return None
    return ADOBE_RGB if is_adobe_rgb and image.mode == "RGB" else None


def _turn(image: Image.Image, notes: list[str]) -> int:
    """Return the EXIF orientation, 1 to 8. TIFF is 1, because Pillow turns it itself."""
    if image.format == "TIFF":
        return 1
    with _HEADER, warnings.catch_warnings(record=True) as complaints:
        warnings.filterwarnings("always", module=r"PIL\.")
        try:
            Image.Exif().load(image.info.get("exif", b""))  # opening swallowed its complaints; here they are heard
            turn = image.getexif().get(ExifTag.Orientation, 1)  # looks into XMP as well
            broken = bool(complaints)
        except Exception:  # noqa: BLE001 - a broken tag block says nothing about the pixels; it is noted
            turn, broken = 1, True
    if broken:
        notes.append("exif-broken")
    return turn if turn in _TURNS else 1


def _shrunk(image: Image.Image, at_least: int | None) -> int:
    """Let libjpeg scale while it decodes where the picture is far above the size, and return by how much.

    libjpeg-turbo then gives the means of 2 x 2, 4 x 4 or 8 x 8 pixels, as `Image.reduce` would after a full decode.
    Only colours that are stored for every second column, but every row (4:2:2), come at half the width.
    """
    factor = min(image.size) // at_least if at_least else 1
    if factor < _FARTHEST or not isinstance(image, JpegImageFile):
        return 1
    scale = next(scale for scale in _SHRUNK if scale * (factor // scale) >= _LOST * factor)
    return 1 if image.draft(None, (image.width // scale, image.height // scale)) is None else scale


def _detail(image: Image.Image, name: str, grid: int) -> Image.Image:
    """Return the middle of the decoded pixels as luma, from a multiple of `grid` on: there compression is seen."""
    left, top = (max(0, side - _DETAIL_SIDE) // 2 // grid * grid for side in image.size)
    part = image.crop((left, top, min(left + _DETAIL_SIDE, image.width), min(top + _DETAIL_SIDE, image.height)))
    part.info = {}  # Pillow warns of transparency that a conversion to luma would lose
    part = eight_bit(part, name, [])
    return part.getchannel("L") if part.mode == "LAB" else part.convert("L")


def _jpeg_quality(image: Image.Image) -> int | None:
    """Return the IJG quality whose luminance table has the sum nearest to the file's; other encoders map to it."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    return 1 + int(np.abs(_SUMS - sum(tables[min(tables)])).argmin())


def _reduced(image: Image.Image, at_least: int | None) -> Image.Image:
    factor = min(image.size) // at_least if at_least else 1
    if factor < 2 or image.mode not in {"RGB", "RGBA", "L", "LA", "CMYK"} or "transparency" in image.info:
        return image
    return image.reduce(factor)
