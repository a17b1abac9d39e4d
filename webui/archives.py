"""Archives from outside, read entry by entry without ever using their names as paths.

The limits count the bytes that come out, whatever the archive says of itself. Nothing is written here.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from webui.errors import BadRequest

__all__ = ["Entry", "is_archive", "read_archive"]

MAX_ENTRIES = 4_000
MAX_LIST = 2 * 2**20
"""Bytes: 4000 names of 400 letters. Where it is written in the longer form of large archives, it is too long."""
MAX_ENTRY = 64 * 2**20
MAX_TOTAL = 2**30
MAX_RATIO, FREE_OF_RATIO = 120, 2**20
"""Pictures shrink little; what grows a hundred times beyond a megabyte is a bomb or an empty page."""

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # LZMA lets the archive choose how much memory is taken
_TAIL = 2**16 + 22  # an archive ends with this record and a comment of at most 64 KiB
_ENCRYPTED = 0x1
_CHUNK = 2**18


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of an archive: its bytes, or the reason why it is not taken."""

    name: str
    data: bytes = b""
    refused: str = ""


def is_archive(head: bytes) -> bool:
    """Say whether a file is a zip, by its first bytes: a picture with an archive behind it is a picture."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_archive(path: Path) -> Iterator[Entry]:
    """Yield the files of a zip. Raises BadRequest where it is damaged or holds more than it may as a whole."""
    try:
        _require_small_list(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise BadRequest(
                    f"it holds {len(entries)} files, more than {MAX_ENTRIES}", hint="make smaller archives"
                )
            left = MAX_TOTAL
            for each in entries:
                if each.is_dir() or _is_litter(each.filename):
                    continue
                one = _read(archive, each)
                left -= len(one.data)
                if left < 0:
                    raise BadRequest(f"it unpacks to more than {MAX_TOTAL // 2**20} MB", hint="make smaller archives")
                yield one
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadRequest("the archive is damaged", hint="pack it again") from error


def _require_small_list(path: Path) -> None:
    """Refuse an archive whose list of files is long before all of it is read: 26 MB of it take 200 MB and 7 s."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile
    (size,) = struct.unpack_from("<I", tail, at + 12)
    if size > MAX_LIST or tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise BadRequest(f"its list of files is longer than {MAX_LIST // 2**20} MB", hint="make smaller archives")


def _read(archive: zipfile.ZipFile, each: zipfile.ZipInfo) -> Entry:
    reason = _refusal(each)
    if reason:
        return Entry(name=each.filename, refused=reason)
    data = bytearray()
    try:
        with archive.open(each) as file:
            while chunk := file.read(_CHUNK):
                data += chunk
                if len(data) > MAX_ENTRY:
                    return Entry(name=each.filename, refused=f"it is larger than {MAX_ENTRY // 2**20} MB")
                if len(data) > FREE_OF_RATIO and len(data) > MAX_RATIO * max(1, each.compress_size):
                    return Entry(name=each.filename, refused=f"it unpacks to more than {MAX_RATIO} times its size")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        return Entry(name=each.filename, refused="it is damaged inside the archive")
    return Entry(name=each.filename, data=bytes(data))


def _refusal(each: zipfile.ZipInfo) -> str:
    mode = each.external_attr >> 16
    posix, windows = PurePosixPath(each.filename), PureWindowsPath(each.filename)
    if posix.is_absolute() or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts):
        return "its name leads out of the archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link or a device, not a file"
    if each.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if each.compress_type not in _METHODS:
        return "it is packed in an unusual way; pack it as a plain zip"
    return ""


def _is_litter(name: str) -> bool:
    """Say whether an entry is what systems add on their own, of which nobody wants to hear."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or (bool(parts) and parts[-1] in {".DS_Store", "Thumbs.db", "desktop.ini"})
