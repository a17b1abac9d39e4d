"""What a file really is, from its first bytes: so that a refusal can name it and say what to do."""

import struct
from collections.abc import Collection
from dataclasses import dataclass

from datasets_tools.errors import UnreadableImage

__all__ = ["NOT_A_PICTURE", "PICTURE_SUFFIXES", "Kind", "is_other", "kind_of", "refusal"]

# Names that promise a picture. The loader goes by content; this only decides whose failure the user must hear of.
_READABLE = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".avif")
_OTHERS = (".gif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".psb", ".svg", ".eps", ".ai", ".ico", ".tga", ".exr")
_CAMERA = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf")
PICTURE_SUFFIXES = frozenset(_READABLE + _OTHERS + _CAMERA)

_SAVE_AS = "open it in the program it comes from and export it as PNG or JPEG"
NOT_A_PICTURE = "leave it out, or put the real picture in its place"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A short name for the content, the Pillow format it claims by signature ("" for none), and the remedy."""

    name: str
    format: str = ""
    remedy: str = NOT_A_PICTURE


_DAMAGED = "the file is damaged: copy or export it again from the original"
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\xff\xd8\xff", Kind(name="a JPEG", format="JPEG", remedy=_DAMAGED)),
    (0, b"\x89PNG\r\n\x1a\n", Kind(name="a PNG", format="PNG", remedy=_DAMAGED)),
    (8, b"WEBP", Kind(name="a WebP", format="WEBP", remedy=_DAMAGED)),
    (0, b"II*\0", Kind(name="a TIFF", format="TIFF", remedy=_DAMAGED)),
    (0, b"MM\0*", Kind(name="a TIFF", format="TIFF", remedy=_DAMAGED)),
    (0, b"BM", Kind(name="a BMP", format="BMP", remedy=_DAMAGED)),
    (4, b"ftypavif", Kind(name="an AVIF", format="AVIF", remedy=_DAMAGED)),
    (4, b"ftypavis", Kind(name="an AVIF", format="AVIF", remedy=_DAMAGED)),
    (0, b"GIF8", Kind(name="a GIF", remedy="save the frame you want as PNG: GIF holds only 256 colours")),
    (4, b"ftyphei", Kind(name="a HEIC photo", remedy="export it as JPEG (on an iPhone: Formats, Most Compatible)")),
    (4, b"ftypmif1", Kind(name="a HEIF photo", remedy="export it as JPEG (on an iPhone: Formats, Most Compatible)")),
    (4, b"ftyp", Kind(name="a video or camera file", remedy=_SAVE_AS)),
    (0, b"\xff\x0a", Kind(name="a JPEG XL", remedy=_SAVE_AS)),
    (4, b"JXL ", Kind(name="a JPEG XL", remedy=_SAVE_AS)),
    (4, b"jP  ", Kind(name="a JPEG 2000", remedy=_SAVE_AS)),
    (0, b"8BPS", Kind(name="a Photoshop document", remedy=_SAVE_AS)),
    (0, b"\0\0\1\0", Kind(name="an icon file", remedy=_SAVE_AS)),
    (0, b"%PDF", Kind(name="a PDF", remedy=_SAVE_AS)),
    (0, b"%!PS", Kind(name="an EPS or PostScript file", remedy=_SAVE_AS)),
    (0, b"\xc5\xd0\xd3\xc6", Kind(name="an EPS file", remedy=_SAVE_AS)),
    (0, b"PK\3\4", Kind(name="a ZIP archive", remedy="unpack it and put the pictures into the folder")),
    (0, b"version https://git-lfs", Kind(name="a Git LFS pointer", remedy="run `git lfs pull` to get the picture")),
)
_EMPTY = Kind(name="empty (0 bytes)", remedy="the copy or download broke off: fetch it again")
_HTML = Kind(name="a web page (HTML)", remedy="the download saved the page: open it and save the picture itself")
_SVG = Kind(name="an SVG drawing", remedy=_SAVE_AS)
_TEXT = Kind(name="a text file")
_UNKNOWN = Kind(name="not a picture in a known format", remedy=_SAVE_AS)


def kind_of(data: bytes) -> Kind:
    """Return what the content is, by signature first and as text otherwise. Never fails."""
    if not data:
        return _EMPTY
    for offset, signature, kind in _SIGNATURES:
        if data.startswith(signature, offset):
            return kind
    return _kind_of_text(data[:4096])


def is_other(head: bytes) -> bool:
    """Say whether a file that begins so is of a known kind that is never read: a layout, a video, a page."""
    kind = kind_of(head)
    return not kind.format and kind is not _UNKNOWN


def refusal(name: str, data: bytes, error: Exception, formats: Collection[str]) -> UnreadableImage:
    """Return in plain words why the picture `name` cannot be read, where a decoder of `formats` raised `error` on it.

    What the decoder itself says ("decoder error -2") stays with the error, as its cause: it helps nobody who draws.
    """
    kind = kind_of(data)
    if kind.format not in formats:
        return UnreadableImage(f"{name} is {kind.name}; pictures can be {', '.join(formats)}", hint=kind.remedy)
    how, remedy = _damage(error)
    return UnreadableImage(f"{name} is {kind.name}, but {how}", hint=remedy or kind.remedy)


def _damage(error: Exception) -> tuple[str, str]:
    said = str(error).lower()
    if "decompressed data too large" in said:  # Pillow unpacks at most 1 MB of them
        return "a text or colour profile packed into it is huge", "export it again without metadata"
    if "cannot identify" in said:
        remedy = "copy or export it again from the original, with 8 bits per channel and no special options"
        return "it is damaged, or of a rare kind that is not read", remedy
    if isinstance(error, (EOFError, struct.error)) or any(
        word in said for word in ("truncated", "unexpected end", "not enough")
    ):
        return "truncated: the file ends too early", ""
    return "damaged: what it holds cannot be decoded", ""


def _kind_of_text(head: bytes) -> Kind:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return _HTML
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in start:
        return _SVG
    text_like = sum(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
    return _TEXT if b"\0" not in head and text_like == len(head) and _decodes(head) else _UNKNOWN


def _decodes(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.end == len(head)  # cut within a character
    return True
