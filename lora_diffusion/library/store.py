"""The database and the objects of one library, safe to use from many threads and processes at once.

SQLite in WAL mode: readers see the last finished transaction whatever writers do, and a transaction that was told to be
done survives a kill and a power cut (synchronous=FULL). Objects are files by content that are complete before a row
names them.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_tools.errors import OutOfSpace
from lora_diffusion.errors import CorruptFile, LoraDiffusionError, UsageError
from lora_diffusion.library.ledger import Writing
from lora_diffusion.library.objects import Objects
from lora_diffusion.library.schema import MIGRATIONS, applied, migrate

__all__ = ["DATABASE", "Store", "require_text"]

DATABASE = "library.db"
_PATIENCE = 60_000  # milliseconds that a writer waits for others; one transaction takes a few
_MAX_PERSON = 200


class Store:
    """A connection per thread, opened when it is needed and closed with the store or after its thread."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.objects = Objects(home / "objects")
        self._connections: dict[tuple[int, threading.Thread], sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self) -> None:
        """Make the folder and the tables, or bring older ones to the newest form."""
        from filelock import FileLock

        with _explained(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            connection = self.connection()
            if applied(connection) == len(MIGRATIONS):
                return
            with FileLock(self.home / ".library.lock"):  # two that switch to WAL at once do not wait for each other
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection)

    def connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        if self._closed:
            raise UsageError(f"the library in {self.home} is closed", hint="open it again")
        me = os.getpid(), threading.current_thread()
        with self._lock:
            if me not in self._connections:
                self._close(lambda pid, thread: pid == me[0] and not thread.is_alive())
                self._connections[me] = _connect(self.home / DATABASE)
            return self._connections[me]

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """See one state of the library for the length of a block; a block inside another shares its state."""
        connection = self.connection()
        with _explained(self.home):
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self, *, by: str, when: str, reason: str = "") -> Iterator[Writing]:
        """Change the library in one transaction, which counts once `finish` of what is yielded wrote its event."""
        _require_person(by)
        _require_time(when)
        connection = self.connection()
        with _explained(self.home):
            connection.execute("BEGIN IMMEDIATE")
            try:
                writing = Writing(connection, by=by, when=when, reason=require_text("reason", reason))
                yield writing
                if writing.finished:
                    connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close every connection of this process; other threads must be done."""
        with self._lock:
            self._closed = True
            self._close(lambda pid, _: pid == os.getpid())

    def _close(self, which: Callable[[int, threading.Thread], bool]) -> None:
        for each in [each for each in self._connections if which(*each)]:
            self._connections.pop(each).close()


def _connect(path: Path) -> sqlite3.Connection:
    # the thread check is off because the store closes the connections of threads that have ended
    connection = sqlite3.connect(path, timeout=_PATIENCE / 1000, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_function("folded", 1, lambda text: str(text).casefold(), deterministic=True)
    return connection


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explanation(home, error) from error
    except (UnicodeDecodeError, LookupError) as error:  # columns or letters that are not what was written
        raise _damaged(home, error) from error
    except UnicodeEncodeError as error:
        raise UsageError("a text holds broken characters", hint="type it again") from error


def _explanation(home: Path, error: sqlite3.DatabaseError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    place = home / DATABASE
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LoraDiffusionError(f"{place} is busy: another program holds it", hint="try again in a minute")
    if code == sqlite3.SQLITE_FULL:
        return OutOfSpace(f"the disk is full: {place} was not changed", hint="free some space and try again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return LoraDiffusionError(f"{place} cannot be opened for writing", hint=f"allow writing to {home}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(home, error)
    return LoraDiffusionError(f"{place}: {error}", hint="run `lora-diffusion library verify`")


def _damaged(home: Path, error: Exception) -> CorruptFile:
    hint = "put back a backup of it; the objects can stay"
    return CorruptFile(f"{home / DATABASE} is damaged: {error}", hint=hint)


def require_text(what: str, text: str, limit: int = 100_000) -> str:
    """Return a text that can be stored. Raises UsageError for one that is no Unicode, or longer than `limit`."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the {what} holds broken characters", hint="type it again") from None
    if len(text) > limit or "\0" in text:
        raise UsageError(f"the {what} is longer than {limit} letters, or holds a zero byte", hint="shorten it")
    return text


def _require_person(by: str) -> None:
    require_text("name of the person", by, _MAX_PERSON)
    if not by.strip() or not by.isprintable():
        raise UsageError(f"{by!a} is nobody's name", hint="say who makes this change")


def _require_time(when: str) -> None:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(when)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"{when!a} is no time", hint="give ISO-8601 with its offset: 2026-01-31T09:00:00+00:00")
