"""The data set as data: one record per image, in an order that does not depend on the file system."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from datasets_tools.bucket import Bucket, Crop
from datasets_tools.errors import DatasetError, InvalidManifest
from datasets_tools.storage import replacing

__all__ = ["Manifest", "Record", "Rights", "name_order", "read_manifest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rights:
    """Who allows what for one image; all free text, `expires` as YYYY-MM-DD. Empty means not stated."""

    owner: str = ""
    licence: str = ""
    source: str = ""
    consent: str = ""
    expires: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image of a data set.

    `file` is relative to the folder with forward slashes, `sha256` and `bytes` are of the file, `width` and `height`
    those of the upright image in pixels, `caption` what training reads (trigger included). `bucket` is what `prepare`
    found for its rule; training computes its own, and so is `crop`. `orientation` is the file's EXIF value, 1 to 8.
    `repeats` is how often an epoch shows the image. `findings` are codes of `check` about this file.
    """

    file: str
    sha256: str
    bytes: int
    width: int
    height: int
    caption: str = ""
    trigger: str = ""
    orientation: int = 1
    repeats: float = 1.0
    rights: Rights | None = None
    bucket: Bucket | None = None
    crop: Crop | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """The images of a folder in their order."""

    folder: Path
    records: Sequence[Record]

    @cached_property
    def fingerprint(self) -> str:
        """Return a SHA-256 over everything that decides training: names, contents, sizes and captions, in order."""
        digest = hashlib.sha256()
        for record in self.records:
            line = [record.file, record.sha256, record.bytes, record.width, record.height, record.caption]
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()

    def path(self, record: Record) -> Path:
        """Return where the image of a record lies."""
        return self.folder / record.file

    def write(self, path: Path) -> None:
        """Write one JSON line per image, whole or not at all."""
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{_line(record)}\n" for record in self.records)


def read_manifest(path: Path, *, folder: Path | None = None) -> Manifest:
    """Read what `Manifest.write` wrote; files are relative to `folder`, by default the manifest's own.

    Raises InvalidManifest with the line number and what is wrong with it.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise InvalidManifest(f"{path} does not exist", hint="run prepare on the folder first") from error
    except OSError as error:
        raise InvalidManifest(f"{path} cannot be read: {error}", hint="run prepare on the folder again") from error
    records = tuple(_record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    return Manifest(path.parent if folder is None else Path(folder), records)


def name_order(file: str) -> tuple[str, str]:
    """Return a sort key that puts composed and decomposed spellings (macOS) in the same place."""
    return unicodedata.normalize("NFC", file), file


def _line(record: Record) -> str:
    stated = {key: value for key, value in asdict(record).items() if value is not None}
    return json.dumps(stated, ensure_ascii=False)


def _record(line: bytes, where: str) -> Record:
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, dict):
            raise InvalidManifest(f"{where}: not an object", hint=_AGAIN)
        row = dict(row, rights=_part(Rights, row.get("rights")), bucket=_part(Bucket, row.get("bucket")))
        row |= {"crop": _crop(row.get("crop")), "findings": _codes(row.get("findings", []))}
        row |= {"repeats": float(row["repeats"])} if type(row.get("repeats")) is int else {}
        record = Record(**row)
        _check(record, where)
    except DatasetError:
        raise
    except UnicodeDecodeError as error:
        raise InvalidManifest(f"{where} cannot be read: {error}", hint=_AGAIN) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidManifest(f"{where}: not JSON ({error})", hint=_AGAIN) from error
    except (TypeError, KeyError) as error:
        allowed = ", ".join(field.name for field in fields(Record))
        raise InvalidManifest(f"{where}: {error}; a line has {allowed}", hint=_AGAIN) from error
    return record


_AGAIN = "run prepare on the folder again"


def _part(kind: type[Any], row: Mapping[str, Any] | None) -> Any:
    return None if row is None else kind(**row)


def _crop(row: Mapping[str, Any] | None) -> Crop | None:
    return None if row is None else Crop(**{**row, "resized": tuple(row["resized"]), "box": tuple(row["box"])})


def _codes(row: object) -> tuple[str, ...]:
    if not isinstance(row, list):
        raise TypeError(f"findings are {row!r}")
    return tuple(row)


_PLAIN = tuple((field.name, field.type) for field in fields(Record)[:9])  # str, int and float


def _check(record: Record, where: str) -> None:
    if type(record.file) is str and leaves(record.file):
        raise InvalidManifest(f"{where}: {record.file!r} leads out of the folder", hint="use paths inside the folder")
    problem = next(_problems(record), "")
    if problem:
        raise InvalidManifest(f"{where}: {problem}", hint=_AGAIN)


def _problems(record: Record) -> Iterator[str]:
    """Say what is wrong with the values of a record: a training would stumble over them hours later."""
    for name, kind in _PLAIN:
        if type(getattr(record, name)) is not kind:
            yield f"{name} is {getattr(record, name)!r}"
    if record.width < 1 or record.height < 1:
        yield f"{record.width} x {record.height} is not a size"
    if record.bytes < 0:
        yield f"bytes is {record.bytes}"
    if not 1 <= record.orientation <= 8:
        yield f"orientation is {record.orientation}"
    if not 0 < record.repeats < math.inf:
        yield f"repeats is {record.repeats}"
    if record.rights and not _are(str, *asdict(record.rights).values()):
        yield f"rights are {asdict(record.rights)}"
    if record.bucket and not _are_sizes(record.bucket.width, record.bucket.height):
        yield f"bucket is {record.bucket.width!r} x {record.bucket.height!r}"
    crop = record.crop
    if crop and not (
        len(crop.box) == 4 and _are(int, *crop.box) and len(crop.resized) == 2 and _are_sizes(*crop.resized)
    ):
        yield f"crop is {crop}"
    if not _are(str, *record.findings):
        yield f"findings are {record.findings}"


def _are(kind: type, *values: object) -> bool:
    return all(type(value) is kind for value in values)


def _are_sizes(*values: int) -> bool:
    return _are(int, *values) and min(values) >= 1


def leaves(file: str) -> bool:
    """Say whether a relative name would lead out of its folder, by the rules of either system."""
    posix, windows = PurePosixPath(file), PureWindowsPath(file)
    absolute = posix.is_absolute() or bool(windows.drive or windows.root)
    return not posix.parts or "\0" in file or absolute or ".." in posix.parts or ".." in windows.parts
