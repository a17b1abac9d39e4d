"""The data set as data: one record per image, in an order that does not depend on the file system."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from datasets_tools.bucket import Bucket, Crop
from datasets_tools.errors import DatasetError, InvalidManifest
from datasets_tools.storage import write_text

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
    records: tuple[Record, ...]

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
        write_text(path, "".join(_line(record) + "\n" for record in self.records))


def read_manifest(path: Path, *, folder: Path | None = None) -> Manifest:
    """Read what `Manifest.write` wrote; files are relative to `folder`, by default the manifest's own.

    Raises InvalidManifest with the line number and what is wrong with it.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise InvalidManifest(f"{path} does not exist", hint="run prepare on the folder first") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"{path} cannot be read: {error}", hint="run prepare on the folder again") from error
    records = tuple(_record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    return Manifest(path.parent if folder is None else Path(folder), records)


def name_order(file: str) -> tuple[str, str]:
    """Return a sort key that puts composed and decomposed spellings (macOS) in the same place."""
    return unicodedata.normalize("NFC", file), file


def _line(record: Record) -> str:
    stated = {key: value for key, value in asdict(record).items() if value is not None}
    return json.dumps(stated, ensure_ascii=False)


def _record(line: str, where: str) -> Record:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise InvalidManifest(f"{where}: not an object", hint=_AGAIN)
        row = dict(row, rights=_part(Rights, row.get("rights")), bucket=_part(Bucket, row.get("bucket")))
        row |= {"crop": _crop(row.get("crop")), "findings": tuple(row.get("findings", ()))}
        record = Record(**row)
        _check(record, where)
    except DatasetError:
        raise
    except (ValueError, RecursionError) as error:
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


def _check(record: Record, where: str) -> None:
    for field in fields(Record)[:6]:
        if type(getattr(record, field.name)) is not field.type:
            raise InvalidManifest(f"{where}: {field.name} is {getattr(record, field.name)!r}", hint=_AGAIN)
    if leaves(record.file):
        raise InvalidManifest(f"{where}: {record.file!r} leads out of the folder", hint="use paths inside the folder")
    if record.width < 1 or record.height < 1:
        raise InvalidManifest(f"{where}: {record.width} x {record.height} is not a size", hint=_AGAIN)


def leaves(file: str) -> bool:
    """Say whether a relative name would lead out of its folder, by the rules of either system."""
    posix, windows = PurePosixPath(file), PureWindowsPath(file)
    absolute = posix.is_absolute() or bool(windows.drive or windows.root)
    return not file or absolute or ".." in posix.parts or ".." in windows.parts
