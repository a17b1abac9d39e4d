"""The only writer of files: everything appears whole, or the old file stays.

A file is written aside in the same folder, forced to the disk, renamed over the old one, and the folder is forced too
(SQLite and git do the same). A kill or a power cut at any point leaves the old file or the new one, never a mixture.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets_tools.errors import DatasetError, InvalidSetting, OutOfSpace

__all__ = [
    "append_line",
    "discard_file",
    "free_bytes",
    "human_bytes",
    "remove_file",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "require_space",
    "require_writable",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_text",
]

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_LEFTOVER = ".part-"


def _boundary(kind: str, path: Path) -> None:
    """Do nothing; tests replace it to fail or stop at the n-th write, fsync or rename."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces `path` durably, on any error the old file is untouched.

    The temporary lies in the same folder and keeps the suffix, so that writers that choose a format by name work.
    Missing folders are made. Raises OutOfSpace when the disk is full, DatasetError when the folder cannot be written.
    """
    path = Path(path)
    temporary = path.parent / f"{_LEFTOVER}{secrets.token_hex(6)}{path.suffix}"
    with _explained(path), _removed_on_error(temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        _boundary("write", temporary)
        yield temporary
        _fsync_file(temporary)
        _boundary("rename", path)
        os.replace(temporary, path)
        _fsync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill; on success it becomes `path` with everything in it forced to the disk.

    Raises DatasetError when `path` exists: a folder is never replaced, because that cannot be done in one step.
    """
    path = Path(path)
    _refuse_existing(path)
    temporary = path.parent / f"{_LEFTOVER}{secrets.token_hex(6)}"
    with _explained(path), _removed_on_error(temporary):
        _boundary("write", temporary)
        temporary.mkdir(parents=True)
        yield temporary
        _fsync_tree(temporary)
        _refuse_existing(path)
        _boundary("rename", path)
        os.rename(temporary, path)
        _fsync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write data to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as they are, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, obj: object) -> None:
    """Write indented JSON. Raises ValueError for NaN and TypeError for what JSON lacks, before anything is touched."""
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, text: str) -> int:
    """Add one line in one system call, so that a reader or a kill never sees half of it. It is not forced to the disk.

    Return the byte offset at which the line begins. Missing folders are made. When the disk fills up in the middle, the
    half line is cut off again before OutOfSpace is raised.
    """
    if "\n" in text:
        raise InvalidSetting(f"a line for {path} holds a line break", hint="append one line at a time")
    line = text.encode("utf-8") + b"\n"
    with _explained(path):
        _boundary("append", path)
        handle = _opened_for_appending(path)
        try:
            _write_whole(handle, line, path)
            return os.lseek(handle, 0, os.SEEK_CUR) - len(line)
        finally:
            os.close(handle)


def remove_file(path: Path) -> None:
    """Remove a file durably; one that is not there is fine."""
    path = Path(path)
    with _explained(path):
        _boundary("remove", path)
        path.unlink(missing_ok=True)
        _fsync_folder(path.parent)


def discard_file(path: Path) -> None:
    """Remove a file whose presence is no matter: not forced to the disk, and no error where it cannot be removed."""
    with suppress(OSError):
        Path(path).unlink()


def remove_leftovers(folder: Path) -> int:
    """Remove what a killed writer left aside in `folder` and return how many; only for the owner of the folder."""
    leftovers = list(Path(folder).glob(f"{_LEFTOVER}*"))
    for leftover in leftovers:
        _remove(leftover)
    return len(leftovers)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """Return the bytes that can still be written to the disk of `folder`, which need not exist yet."""
    return shutil.disk_usage(_existing(Path(folder).absolute())).free


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise OutOfSpace unless `needed` bytes for `what` fit on the disk of `folder`."""
    free = free_bytes(folder)
    if needed > free:
        raise OutOfSpace(
            f"{what} needs {human_bytes(needed)} in {folder}, but only {human_bytes(free)} are free",
            hint=f"free {human_bytes(needed - free)} or choose a folder on another disk",
        )


def require_writable(path: Path) -> None:
    """Raise DatasetError unless a file could now be written to `path`: before hours of work, not after them.

    Asks by making an empty file beside it and removing it again (permissions do not tell of read-only disks); folders
    that are missing are not made. OutOfSpace is left to `require_space`.
    """
    path = Path(path)
    folder = _existing(path.parent)
    probe = folder / f"{_LEFTOVER}{secrets.token_hex(6)}"
    with _explained(path):
        with suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISDIR(path.stat().st_mode):  # unlike is_dir it says of a name that it is too long
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        with _removed_on_error(probe):
            probe.touch()
            probe.unlink()


def human_bytes(count: float) -> str:
    """Return a size as people read it: 1536 -> "1.5 kB" (powers of 1000, as disks are sold)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _existing(folder: Path) -> Path:
    """Return the nearest folder above that exists; of names that are too long or closed none does."""
    while not os.path.exists(folder) and folder != folder.parent:  # a drive that is not there is its own parent
        folder = folder.parent
    return folder


def _opened_for_appending(path: Path) -> int:
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, how, 0o666)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, how, 0o666)


def _write_whole(handle: int, line: bytes, path: Path) -> None:
    start = os.fstat(handle).st_size
    written = os.write(handle, line)
    if written < len(line):
        os.ftruncate(handle, start)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise DatasetError(f"{path} exists already", hint="choose another name, or move the old folder away first")


@contextmanager
def _removed_on_error(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:  # a KeyboardInterrupt must not leave a temporary behind either
        _remove(temporary)
        raise


def _remove(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        with suppress(OSError):  # the first error is the one to report
            leftover.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one sentence with the remedy; other errors pass as they are."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:
        explanation = _explanation(path, error)
        if explanation is None:
            raise
        raise explanation from error


def _explanation(path: Path, error: Exception) -> DatasetError | None:
    if _is_full(error):
        return _out_of_space(path)
    if not isinstance(error, OSError) or not _concerns(path, error):
        return None
    said = f"{path} cannot be written: {error.strerror or error}"
    if error.errno in _REFUSED:
        return DatasetError(said, hint=f"allow writing to {path.parent}, or choose a folder that is yours")
    if error.errno == errno.ENAMETOOLONG:
        return DatasetError(said, hint="use a shorter name")
    if isinstance(error, (NotADirectoryError, FileExistsError, IsADirectoryError)):
        hint = "a file stands where a folder is needed, or the reverse: choose another path"
        return DatasetError(said, hint=hint)
    return None


def _concerns(path: Path, error: OSError) -> bool:
    """Say whether the error is about the place written to; the body of `replacing` may fail at reading elsewhere."""
    if error.filename is None:
        return True
    place = Path(os.fsdecode(error.filename))
    aside = place.name.startswith(_LEFTOVER)  # in a folder above, where that of the path is yet to be made
    return aside or path.is_relative_to(place) or place.is_relative_to(path.parent)


def _is_full(error: Exception) -> bool:
    # safetensors writes from Rust and hands back the number only inside its message
    return (isinstance(error, OSError) and error.errno in _FULL) or "(os error 28)" in str(error)


def _out_of_space(path: Path) -> OutOfSpace:
    with suppress(OSError):
        return OutOfSpace(
            f"the disk is full: {path} was not written, {human_bytes(free_bytes(path.parent))} are free",
            hint="free some space, or choose a folder on another disk; the file that was there before is unchanged",
        )
    return OutOfSpace(f"the disk is full: {path} was not written", hint="free some space and run it again")


def _fsync_file(path: Path) -> None:
    _boundary("fsync", path)
    with open(path, "rb+") as file:  # Windows forces only handles that may write
        os.fsync(file.fileno())


def _fsync_folder(path: Path) -> None:
    _boundary("fsync", path)
    if os.name == "nt":  # a folder cannot be opened there; the rename itself is journaled
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            _fsync_file(Path(parent, name))
        _fsync_folder(Path(parent))
