"""What browsers sent and nobody keeps yet: how much there may be, and for how long."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from datasets_tools import free_bytes
from webui.disk import bytes_of, files_below, remove_files, remove_old_folders
from webui.errors import StudioError, TooMany

__all__ = ["DAY", "Uploads"]

DAY = 86400.0
QUOTA, QUOTA_EACH = 4 * 2**30, 2 * 2**30
"""Bytes below the folder, and of them what one person may send within a day: nobody fills it for the others."""
MAX_FILES = 20_000


class _Full(StudioError):
    status = 413


class Uploads:
    """The folder of uploads. `quota` is in bytes for all, `each` for one person within a day."""

    def __init__(self, folder: Path, *, quota: int = QUOTA, each: int = QUOTA_EACH) -> None:
        self._folder, self._quota, self._each = folder.resolve(), quota, each
        self._lock = threading.Lock()
        self._coming = 0
        self._sent: dict[str, list[tuple[float, int]]] = {}
        self._senders: dict[str, set[str]] = {}

    def came(self, paths: Sequence[str], user: str) -> None:
        """Note who sent files; a file that two people sent is one."""
        for path in paths:
            self._senders.setdefault(path, set()).add(user)

    def holds(self, path: object, user: str = "") -> bool:
        """Say whether a path, which anybody may have written, is one of the folder's files and not somebody else's.

        Of files that came before this process began, the hash in their path is all that keeps them apart.
        """
        try:
            found = Path(path).resolve() if isinstance(path, str) and Path(path).is_absolute() else None
            if found is None or not found.is_relative_to(self._folder) or not found.is_file():
                return False
        except (OSError, ValueError):
            return False
        senders = self._senders.get(str(found))
        return not user or senders is None or user in senders

    def reserve(self, user: str, size: int, *, now: float | None = None) -> AbstractContextManager[None]:
        """Take room for what is coming until the block ends. Raises TooMany, and 413 where there is no room."""
        now = time.time() if now is None else now
        with self._lock:
            found = files_below(self._folder)
            room = min(self._quota - bytes_of(found), free_bytes(self._folder)) - self._coming
            if size > room or len(found) >= MAX_FILES:
                raise _Full("there is no room for more uploads", hint="put what you sent to use, or ask an admin")
            mine = [(when, much) for when, much in self._sent.get(user, ()) if when > now - DAY]
            if sum(much for _, much in mine) + size > self._each:
                raise TooMany("you have sent too much today", hint=f"at most {self._each / 2**30:.0f} GB within a day")
            self._sent[user] = [*mine, (now, size)]
            self._coming += size
        return self._until_there(size)

    @contextmanager
    def _until_there(self, size: int) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._coming -= size

    def sweep(self, *, now: float | None = None) -> int:
        """Remove what is older than a day, and return how many bytes that were."""
        before = (time.time() if now is None else now) - DAY
        old = {path: status for path, status in files_below(self._folder).items() if status.st_mtime < before}
        remove_files(old)
        for path in old:
            self._senders.pop(str(path), None)
        with self._lock:
            if not self._coming:  # whoever sends a file again finds its folder, which is old, and fills it
                remove_old_folders(self._folder, before)
        return bytes_of(old, if_gone=True)
