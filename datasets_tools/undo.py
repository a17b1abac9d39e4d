"""Changes to files of a folder that can be taken back, byte for byte.

.captions/000001.json    what was changed: the old bytes of each file, and the hashes of what was written instead

The record is on the disk before the first file is touched. So after a kill at any point each file is either as it was
or as it was to become, and undoing restores them all.
"""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_tools.errors import DatasetError, InvalidManifest
from datasets_tools.manifest import leaves
from datasets_tools.storage import remove_file, write_bytes, write_json

__all__ = ["FOLDER", "Entry", "change_files", "history", "locked", "require_places", "undo_last"]

FOLDER = ".captions"
"""What undoing needs lies in this folder beside the pictures."""
_PATIENCE = 10.0  # seconds to wait for another process; an edit of 10,000 files takes about as long


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change as the history tells it: what was done, when (as the caller said), to which files (relative)."""

    number: int
    what: tuple[str, ...]
    when: str
    files: tuple[str, ...]
    undone: bool


@dataclass(kw_only=True)
class _Kept:
    """One file of a record: its bytes before (None: it was not there), and the SHA-256 of what was written since."""

    before: bytes | None
    after: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class _Record:
    number: int
    what: tuple[str, ...]
    when: str
    undone: bool = False
    files: dict[str, _Kept] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        return Entry(
            number=self.number, what=self.what, when=self.when, files=tuple(sorted(self.files)), undone=self.undone
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the captions of a folder. Raises DatasetError where another one is at it."""
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(Path(folder, FOLDER, ".lock"), timeout=_PATIENCE)
        lock.acquire()
    except Timeout:
        reason = f"the captions of {folder} are being changed by another process"
        raise DatasetError(reason, hint="wait until it is done") from None
    except OSError as error:
        reason = f"{folder} cannot be written: {error.strerror or error}"
        raise DatasetError(reason, hint="allow writing to it, or copy it to a folder that is yours") from error
    try:
        yield
    finally:
        lock.release()


def change_files(
    folder: Path, batches: Iterable[Mapping[str, bytes]], *, what: Sequence[str], when: str = ""
) -> Entry | None:
    """Write files (relative name -> new bytes), batch by batch, as one change; None where there was nothing to write.

    The batches are made while others are written already. A batch that cannot be written whole is taken back, and the
    error goes on; the batches before it stay. Call it while `locked`. Raises as `require_places` does.
    """
    folder = Path(folder)
    record = _Record(number=max(_numbers(folder), default=0) + 1, what=tuple(what), when=when)
    for batch in batches:
        require_places(folder, batch)
        new = {file: data for file, data in batch.items() if _bytes_of(folder / file) != data}
        if new:
            _write_batch(folder, record, new)
    return record.entry if record.files else None


def require_places(folder: Path, files: Iterable[str]) -> None:
    """Raise DatasetError for the first name that no file can have in a folder: too long, or that of a folder or a link.

    Through a link that leads out, undoing would copy in what lies there.
    """
    inside = os.path.realpath(folder)
    for file in files:
        if not Path(os.path.realpath(Path(folder, file))).is_relative_to(inside):
            reason = f"{file} cannot be written: it is a link that leads out of the folder"
            raise DatasetError(reason, hint="put a copy of what it leads to in its place")
        try:
            kind = Path(folder, file).stat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = f"{file} cannot be written: {error.strerror or error}"
            raise DatasetError(reason, hint="give the picture a shorter name, or move what is in the way") from error
        if stat.S_ISDIR(kind):
            raise DatasetError(f"{file} cannot be written: a folder has that name", hint="rename the folder")
        if not stat.S_ISREG(kind):  # reading a pipe would wait for ever
            raise DatasetError(f"{file} cannot be written: it is a pipe or a device", hint="move it away")


def undo_last(folder: Path) -> Entry:
    """Restore the bytes of every file that the last change not yet undone wrote, and return that change.

    Raises DatasetError where there is none, and where a file was changed since, naming it; then nothing is restored.
    """
    folder = Path(folder)
    if not _numbers(folder):
        raise DatasetError(f"no change of captions was made in {folder}", hint="check the folder")
    with locked(folder):
        record = next((one for one in _records(folder, newest_first=True) if not one.undone), None)
        if record is None:
            raise DatasetError(f"every change of captions in {folder} is undone", hint="see the history")
        for file, kept in record.files.items():
            if not _is_known(_bytes_of(folder / file), kept):
                reason = f"{file} was changed since; undoing would lose that"
                raise DatasetError(reason, hint=f"move {file} away to keep it, put it back as it was, then undo again")
        _restore(folder, record.files)
        record.undone = True
        _write(folder, record)
        return record.entry


def history(folder: Path) -> tuple[Entry, ...]:
    """Return the changes of a folder from the first to the last. Raises InvalidManifest for a damaged record."""
    return tuple(record.entry for record in _records(Path(folder)))


def _write_batch(folder: Path, record: _Record, new: Mapping[str, bytes]) -> None:
    before = {file: _Kept(before=_bytes_of(folder / file)) for file in new}
    first = not record.files
    for file, data in new.items():
        record.files.setdefault(file, before[file]).after.append(_sha256(data))
    _write(folder, record)
    try:
        for file, data in new.items():
            write_bytes(folder / file, data)
    except BaseException:
        with suppress(DatasetError, OSError):  # the first error counts; what cannot be taken back now can be undone
            _restore(folder, before)
            if first:
                remove_file(_path(folder, record.number))
        raise


def _restore(folder: Path, files: Mapping[str, _Kept]) -> None:
    for file, kept in files.items():
        if kept.before is None:
            remove_file(folder / file)
        elif _bytes_of(folder / file) != kept.before:
            write_bytes(folder / file, kept.before)


def _is_known(data: bytes | None, kept: _Kept) -> bool:
    return data == kept.before or (data is not None and _sha256(data) in kept.after)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}", hint="put the file back") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _path(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:06}.json"


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in (folder / FOLDER).glob("*.json") if path.stem.isdecimal())


def _records(folder: Path, *, newest_first: bool = False) -> Iterator[_Record]:
    for number in sorted(_numbers(folder), reverse=newest_first):
        yield _read(folder, number)


def _write(folder: Path, record: _Record) -> None:
    files = {
        file: {"before": None if kept.before is None else base64.b64encode(kept.before).decode(), "after": kept.after}
        for file, kept in record.files.items()
    }
    row = {"what": record.what, "when": record.when, "undone": record.undone, "files": files}
    write_json(_path(folder, record.number), row)


def _read(folder: Path, number: int) -> _Record:
    path = _path(folder, number)
    try:
        row = json.loads(path.read_bytes())
        files = {file: _kept(kept) for file, kept in row["files"].items()}
        record = _Record(
            number=number, what=tuple(row["what"]), when=str(row["when"]), undone=row["undone"] is True, files=files
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{path} is damaged: {error}"
        raise InvalidManifest(reason, hint="restore it from a backup, or move it away: it cannot be undone") from error
    inside = folder.resolve()
    outside = next((file for file in files if leaves(file) or not _lies_in(folder / file, inside)), None)
    if outside is not None:
        raise InvalidManifest(f"{path} names {outside!r}, which leads out of the folder", hint="move the record away")
    return record


def _lies_in(path: Path, inside: Path) -> bool:
    """Say whether the file lies inside of a folder, whatever links are on the way."""
    return path.parent.resolve().is_relative_to(inside)


def _kept(row: Mapping[str, Any]) -> _Kept:
    before = None if row["before"] is None else base64.b64decode(row["before"], validate=True)
    return _Kept(before=before, after=[str(sha256) for sha256 in row["after"]])
