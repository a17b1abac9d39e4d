"""Packages that come from anyone: everything is checked on the bytes that come out, before anything is added.

No name of the zip is ever a path here: files are written under numbers. What package.json does not list is refused, and
so is whatever is written twice, overlaps, links, grows beyond reason or is not what its hash says.
"""

import hashlib
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.storage import require_space
from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.library.adding import NewSample
from lora_diffusion.library.contents import CONTENTS, LARGEST, Contents, PackedFile
from lora_diffusion.library.naming import require_name
from lora_diffusion.library.values import Version

if TYPE_CHECKING:
    from lora_diffusion.library.library import Library

__all__ = ["unpack"]

MOST = 1000  # entries
_DIRECTORY = 1 << 20  # bytes of the list of entries; ours take about 100 each
_MOST_CONTENTS = 16 << 20  # bytes of package.json; 100,000 training pictures are 8 MB
_RATIO = 200  # of text that a person wrote; deflate itself ends at 1032
_SMALL = 1 << 20  # bytes below which a ratio says nothing
_CHUNK = 1 << 20
_END, _END_64 = b"PK\5\6", b"PK\6\7"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_HINT = "get the package again from whoever made it with `lora-diffusion library pack`"


def unpack(library: "Library", path: Path, *, by: str, when: str, name: str) -> Version:
    """Check a package and add what it holds; as `Library.unpack` says."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="name a package")
    (library.home / "tmp").mkdir(exist_ok=True)
    with _opened(path) as archive, tempfile.TemporaryDirectory(dir=library.home / "tmp") as folder:
        entries = _entries(archive, path)
        contents = _contents(archive, entries, path)
        _require_listed(contents, entries, path)
        require_space(library.home, 2 * sum(each.bytes for each in contents.files), f"unpacking {path.name}")
        files = _extract(archive, entries, contents.files, Path(folder), path)
        samples = [
            NewSample(path=files[each.path], prompt=each.prompt, seed=each.seed, weight=each.weight)
            for each in contents.samples
        ]
        shown = {each.sha256 for each in contents.files if each.path in {one.path for one in contents.samples}}
        thumbnail = contents.details.thumbnail if contents.details.thumbnail in shown else ""
        return library.add(
            files[contents.adapter],
            name=name or contents.name,
            by=by,
            when=when,
            details=replace(contents.details, thumbnail=thumbnail),
            lineage=contents.lineage,
            samples=samples,
        )


def _opened(path: Path) -> zipfile.ZipFile:
    """Open a zip whose list of entries is small: the library would read all of it into memory."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 0x10016))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise _refused(path, "is no zip, or is cut off")
    count, directory = struct.unpack_from("<HI", tail, at + 10)
    if tail[max(0, at - 20) : at].startswith(_END_64) or count > MOST or directory > _DIRECTORY:
        raise _refused(path, f"holds more than {MOST} entries")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise _refused(path, f"is damaged ({error})") from error


def _refused(path: Path, why: str) -> CorruptFile:
    return CorruptFile(f"{path.name} {why}", hint=_HINT)


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    met: set[str] = set()
    end = 0
    for entry in sorted(archive.infolist(), key=lambda each: each.header_offset):
        if problem := _problem(entry):
            raise _refused(path, f"holds {entry.filename[:80]!a}, {problem}")
        twin = unicodedata.normalize("NFC", entry.filename).casefold()
        if twin in met:
            raise _refused(path, f"holds {entry.filename[:80]!a} twice")
        if entry.header_offset < end:
            raise _refused(path, f"holds {entry.filename[:80]!a}, which overlaps another entry")
        met.add(twin)
        end = entry.header_offset + entry.compress_size
        if not entry.is_dir():
            found[entry.filename] = entry
    if sum(entry.file_size for entry in found.values()) > LARGEST:
        raise _refused(path, f"would unpack to more than {LARGEST >> 30} GiB")
    return found


def _problem(entry: zipfile.ZipInfo) -> str:
    name, mode = entry.filename, entry.external_attr >> 16
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in name or entry.orig_filename != name:
        return "which is no plain relative name"
    if ".." in parts or "." in parts or "" in parts:
        return "which leads out of the package"
    if stat.S_IFMT(mode) not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        return "which is a link or a device"
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _COMPRESSIONS:
        return "which is encrypted or compressed in an unusual way"
    return ""


def _contents(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], path: Path) -> Contents:
    from pydantic import ValidationError

    if CONTENTS not in entries:
        raise _refused(path, f"holds no {CONTENTS}: it is no package of this project")
    entry = entries[CONTENTS]
    data = b"".join(_read(archive, entry, min(entry.file_size, _MOST_CONTENTS), path))
    try:
        contents = Contents.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "text"
        raise _refused(path, f"has a {CONTENTS} whose {where} is wrong: {first['msg']}") from error
    require_name(contents.name)
    return contents


def _require_listed(contents: Contents, entries: Mapping[str, zipfile.ZipInfo], path: Path) -> None:
    listed = [each.path for each in contents.files]
    if len(set(listed)) < len(listed):
        raise _refused(path, f"lists a file twice in {CONTENTS}")
    if sum(each.bytes for each in contents.files) > LARGEST:
        raise _refused(path, f"would unpack to more than {LARGEST >> 30} GiB")
    for name in sorted({*listed, CONTENTS} ^ entries.keys()):
        raise _refused(path, f"lacks {name[:80]!a}" if name in listed else f"holds {name[:80]!a}, which is not listed")
    for each in contents.files:
        if entries[each.path].file_size != each.bytes:
            raise _refused(path, f"holds {each.path[:80]!a}, which has another size than {CONTENTS} says")
    for name in (contents.adapter, *(each.path for each in contents.samples)):
        if name not in listed:
            raise _refused(path, f"lacks {name[:80]!a}")


def _extract(
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    files: Sequence[PackedFile],
    folder: Path,
    path: Path,
) -> dict[str, Path]:
    """Write each file under a number and return where it is, by its name in the package."""
    result = {}
    for number, each in enumerate(files):
        digest, written = hashlib.sha256(), 0
        result[each.path] = target = folder / f"{number:04}"
        with target.open("wb") as file:
            for chunk in _read(archive, entries[each.path], each.bytes, path):
                digest.update(chunk)
                written += file.write(chunk)
        if written != each.bytes or digest.hexdigest() != each.sha256:
            raise _refused(path, f"holds {each.path[:80]!a}, which is not what {CONTENTS} says")
    return result


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, path: Path) -> Iterator[bytes]:
    """Yield what an entry really holds, as long as that is within its limit and in proportion to what it takes."""
    shown, done = f"{entry.filename[:80]!a}", 0
    try:
        with archive.open(entry) as file:
            while chunk := file.read(min(_CHUNK, limit + 1 - done)):
                done += len(chunk)
                if done > limit:
                    raise _refused(path, f"holds {shown}, which is longer than it says")
                if done > max(_SMALL, _RATIO * entry.compress_size):
                    raise _refused(path, f"holds {shown}, which is far too well compressed to be what it says")
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise _refused(path, f"is damaged at {shown} ({error})") from error
