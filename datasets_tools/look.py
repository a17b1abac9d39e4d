"""Look at one picture file in full: is it whole, what does it hold, what does it look like."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.errors import UnreadableImage
from datasets_tools.quality import Quality

if TYPE_CHECKING:
    from PIL.Image import Image

    from datasets_tools.image import Colour, Limits
    from datasets_tools.journal import Journal

__all__ = ["Look", "Seen", "decode_row", "look_at", "seen_from_row"]

_VERSION = 5  # raise it when the same file would be seen differently: journals then start anew
_SIDE = 512  # pixels of the shorter side at which pictures are measured: about what training sees

_PLAIN = 3  # levels within which a picture is one colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What was learned about one picture file (relative, POSIX).

    `size` is the upright (width, height) in pixels, `orientation` the file's EXIF value, `alike` and `mirrored` are the
    64-bit perceptual hashes of the picture and of its mirror image, `colour` is its mean colour in 0..255, `notes` are
    those of `Picture`. Where `refused` is set the file cannot be read and the rest is empty.
    """

    file: str
    sha256: str = ""
    bytes: int = 0
    size: tuple[int, int] = (0, 0)
    format: str = ""
    orientation: int = 1
    alike: int = 0
    mirrored: int = 0
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()
    jpeg_quality: int | None = None
    quality: Quality = field(default_factory=Quality)
    refused: UnreadableImage | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """How files are looked at: the folder they lie in, the colour behind transparent parts, limits, and a journal."""

    folder: Path
    background: "Colour" = (255, 255, 255)
    limits: "Limits | None" = None
    journal: "Journal | None" = None


def look_at(file: str, look: Look, *, decode: Callable[[str], Seen] | None = None) -> Seen:
    """Read and decode one file in full. What the journal knows of the same bytes is not decoded again.

    `decode` does the work elsewhere; by default it is done here.
    """
    if look.journal is None:
        return decode(file) if decode else _look(file, look)
    try:
        sha256 = hashlib.sha256(_read(file, look)).hexdigest()
    except UnreadableImage as refused:
        return Seen(file=file, refused=refused)
    known = look.journal.find(_key(sha256, look))
    if known is not None:
        return seen_from_row(file, known)
    seen = decode(file) if decode else _look(file, look)
    passing = seen.refused is not None and seen.refused.passing
    if seen.sha256 and not passing:  # it has none where the file vanished or crashed the decoder: that may pass too
        look.journal.add(_key(seen.sha256, look), _to_row(seen))
    return seen


def decode_row(file: str, look: Look) -> dict[str, Any]:
    """Return what `look_at` sees as JSON values; `seen_from_row` is the inverse. The journal plays no part."""
    return _to_row(_look(file, look))


def _key(sha256: str, look: Look) -> str:
    from datasets_tools.image import DEFAULT_LIMITS, FORMATS

    limits = look.limits or DEFAULT_LIMITS
    return (
        f"{_VERSION}:{'+'.join(FORMATS)}:{sha256}:{bytes(look.background).hex()}:{limits.max_pixels}:{limits.max_side}"
    )


def _read(file: str, look: Look) -> bytes:
    from datasets_tools.image import DEFAULT_LIMITS, read_bytes

    return read_bytes(look.folder / file, look.limits or DEFAULT_LIMITS)


def _look(file: str, look: Look) -> Seen:
    from datasets_tools.image import DEFAULT_LIMITS

    try:
        data = _read(file, look)
    except UnreadableImage as refused:
        return Seen(file=file, refused=refused)
    return _decoded(file, data, hashlib.sha256(data).hexdigest(), look.background, look.limits or DEFAULT_LIMITS)


def _decoded(file: str, data: bytes, sha256: str, background: "Colour", limits: "Limits") -> Seen:
    from datasets_tools.image import open_picture
    from datasets_tools.quality import quality_of

    try:
        picture = open_picture(data, background=background, limits=limits, at_least=_SIDE, name="it")
    except UnreadableImage as refused:
        return Seen(file=file, sha256=sha256, bytes=len(data), refused=refused)
    alike, mirrored, colour = _impression(picture.image)
    return Seen(
        file=file,
        sha256=sha256,
        bytes=len(data),
        size=picture.size,
        format=picture.format,
        orientation=picture.orientation,
        alike=alike,
        mirrored=mirrored,
        colour=colour,
        notes=(*picture.notes, "blank") if _is_blank(picture.image) else picture.notes,
        jpeg_quality=picture.jpeg_quality,
        quality=quality_of(picture.image, picture.detail, picture.shrunk),
    )


def _is_blank(image: "Image") -> bool:
    from PIL.ImageStat import Stat

    return all(high - low <= _PLAIN for low, high in Stat(image).extrema)


def _impression(image: "Image") -> tuple[int, int, tuple[float, float, float]]:
    """Return the perceptual hashes of the image and of its mirror image, and its mean colour."""
    import imagehash
    from PIL.Image import Resampling, Transpose
    from PIL.ImageStat import Stat

    small = image.resize((64, 64), Resampling.BOX, reducing_gap=2.0)
    red, green, blue = Stat(small).mean
    mirror = small.transpose(Transpose.FLIP_LEFT_RIGHT)
    return int(str(imagehash.phash(small)), 16), int(str(imagehash.phash(mirror)), 16), (red, green, blue)


def _to_row(seen: Seen) -> dict[str, Any]:
    """Return what was seen as JSON values, without the name: the same bytes may lie under several."""
    if seen.refused is not None:
        return {
            "sha256": seen.sha256,
            "bytes": seen.bytes,
            "refused": [str(seen.refused), seen.refused.hint, seen.refused.passing],
        }
    return {
        "sha256": seen.sha256,
        "bytes": seen.bytes,
        "size": seen.size,
        "format": seen.format,
        "orientation": seen.orientation,
        "alike": seen.alike,
        "mirrored": seen.mirrored,
        "colour": seen.colour,
        "notes": seen.notes,
        "jpeg_quality": seen.jpeg_quality,
        "quality": {name: getattr(seen.quality, name) for name in Quality.__dataclass_fields__},
    }


def seen_from_row(file: str, row: Mapping[str, Any]) -> Seen:
    """Return what was seen of a file from the JSON values that `decode_row` gave, for it or for one of equal bytes."""
    if "refused" in row:
        message, hint, passing = row["refused"]
        refused = UnreadableImage(message, hint=hint, passing=passing)
        return Seen(file=file, sha256=row["sha256"], bytes=row["bytes"], refused=refused)
    quality = dict(row["quality"])
    quality["border"] = tuple(quality["border"])
    quality["colours"] = tuple((tuple(colour), share) for colour, share in quality["colours"])
    tuples = {name: tuple(row[name]) for name in ("size", "colour", "notes")}
    return replace(Seen(file=file), **{**row, **tuples, "quality": Quality(**quality)})
