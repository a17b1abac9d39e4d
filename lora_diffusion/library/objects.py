"""Files by their content: objects/ab/abcd….safetensors, read-only, complete from the moment they have their name.

An object has the modification time 0 (as in the Nix store). Whatever writes to it later gives it another, and then it
is read again in full before it is handed out.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.storage import replacing, sha256_file
from lora_diffusion.errors import CorruptFile

__all__ = ["Kept", "Objects"]

_CHUNK = 1 << 20
_TIME = 0  # seconds since 1970
_READ_ONLY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A file that is in the store."""

    sha256: str
    bytes: int
    suffix: str


class Objects:
    """The folder of objects."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[int, int]] = {}

    def path(self, sha256: str, suffix: str) -> Path:
        """Return where an object lies, whether it is there or not."""
        return self.folder / sha256[:2] / f"{sha256}{suffix}"

    def keep(self, source: Path, suffix: str, sha256: str) -> Kept:
        """Copy the file with this hash into the store. An object that is there and undamaged is not written again.

        Raises CorruptFile where the file has another hash by now.
        """
        target = self.path(sha256, suffix)
        if not self.holds(sha256, suffix):
            with replacing(target) as aside:
                _copy(source, aside, sha256)
                _release(target)
        _seal(target)
        return Kept(sha256=sha256, bytes=target.stat().st_size, suffix=suffix)

    def holds(self, sha256: str, suffix: str) -> bool:
        """Say whether an object is there and has its content, by reading it in full."""
        path = self.path(sha256, suffix)
        return path.is_file() and not path.is_symlink() and sha256_file(path) == sha256

    def require(self, sha256: str, suffix: str, size: int) -> Path:
        """Return the path of an object; size and time are trusted. Raises CorruptFile where it is gone or changed."""
        path = self.path(sha256, suffix)
        try:
            found = path.stat()
        except OSError:
            raise _damaged(sha256, "is missing") from None
        trusted = found.st_mtime == _TIME or self._read.get(path) == (found.st_mtime_ns, found.st_size)
        if found.st_size != size or not (trusted or sha256_file(path) == sha256):
            raise _damaged(sha256, "has been changed")
        self._read[path] = found.st_mtime_ns, found.st_size
        return path

    def files(self) -> Iterator[Path]:
        """Every file below the folder, also those that do not belong there."""
        for parent, _, names in os.walk(self.folder):
            yield from (Path(parent, name) for name in sorted(names))


def _copy(source: Path, aside: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as file, aside.open("wb") as copy:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != sha256:
        raise CorruptFile(f"{source} changed while it was read", hint="wait until it is complete, then add it again")


def _release(target: Path) -> None:
    """Windows replaces no file that is read-only: here a damaged object that is mended."""
    with suppress(FileNotFoundError):
        target.chmod(stat.S_IRUSR | stat.S_IWUSR)


def _seal(target: Path) -> None:
    os.utime(target, (_TIME, _TIME))
    target.chmod(_READ_ONLY)


def _damaged(sha256: str, what: str) -> CorruptFile:
    return CorruptFile(
        f"object {sha256} of the library {what}",
        hint="run `lora-diffusion library verify`, and add the same file again or put back a backup of it",
    )
