"""The studio's own tables: users, sessions, settings, data sets, files by opaque id; one SQLite file in its home."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Store"]

_MIGRATIONS = (
    """
    create table users (
        name text primary key collate nocase, role text not null, password text not null, created text not null,
        disabled integer not null default 0);
    create table sessions (
        token text primary key, user text not null, csrf text not null, created real not null, seen real not null);
    create table tokens (
        token text primary key, user text not null, label text not null, created text not null);
    create table tries (key text primary key, count integer not null, free_at real not null);
    create table settings (
        user text not null collate nocase, key text not null, value text not null, primary key (user, key));
    create table datasets (
        id text primary key, name text not null, folder text not null, owner text not null, created text not null,
        removed integer not null default 0);
    create table files (id text primary key, path text not null, name text not null, owner text not null);
    """,
    "alter table tokens add column used text not null default ''",
)
"""Append only: a file of an older version runs those that it has not seen."""

_BUSY_SECONDS = 30.0


class Store:
    """A connection per thread to one SQLite file in WAL mode. Safe for several processes."""

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        with self.writing() as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, statements.split(";")):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {number}")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._connection().execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        found = self._connection().execute(query, values).fetchone()
        return found if found is None or isinstance(found, sqlite3.Row) else None

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement in a transaction of its own and return how many rows it changed."""
        with self.writing() as connection:
            return connection.execute(statement, values).rowcount

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the only writing transaction for a block: all of it happens, or nothing."""
        connection = self._connection()
        connection.execute("begin immediate")
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.rollback()  # or every later block of this thread would fail too
            raise

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found
