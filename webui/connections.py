"""A connection per thread to one SQLite file."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Connections"]


class Connections:
    """Connections to one file, opened when a thread first asks.

    Those of threads that have ended are closed when another one is opened: each holds two files open, and left to the
    garbage collector, as it is part of a cycle, there would be more of them than a process may have.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """`connect` opens one that any thread may close (check_same_thread=False), in autocommit mode."""
        self._connect, self._lock = connect, threading.Lock()
        self._open: dict[threading.Thread, sqlite3.Connection] = {}

    def mine(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        me = threading.current_thread()
        if me not in self._open:
            found = self._connect()
            with self._lock:
                for ended in [each for each in self._open if not each.is_alive()]:
                    self._open.pop(ended).close()
                self._open[me] = found
        return self._open[me]

    def close(self) -> None:
        """Close the connection of this thread."""
        with self._lock:
            found = self._open.pop(threading.current_thread(), None)
        if found is not None:
            found.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the only writing transaction for a block: all of it happens, or nothing."""
        connection = self.mine()
        connection.execute("begin immediate")
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.rollback()  # or every later block of this thread would fail too
            raise
