"""The studio's own tables: users, sessions, settings, data sets, files by opaque id; one SQLite file in its home."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from webui.connections import Connections

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
        self._path = path
        self._connections = Connections(self._connect)
        with self.writing() as connection:
            (version,) = connection.execute("pragma user_version").fetchone()
            for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, statements.split(";")):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {number}")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._connections.mine().execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        found = self._connections.mine().execute(query, values).fetchone()
        return found if found is None or isinstance(found, sqlite3.Row) else None

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement in a transaction of its own and return how many rows it changed."""
        with self.writing() as connection:
            return connection.execute(statement, values).rowcount

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Hold the only writing transaction for a block: all of it happens, or nothing."""
        return self._connections.writing()

    def _connect(self) -> sqlite3.Connection:
        found = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        found.row_factory = sqlite3.Row
        found.execute("pragma journal_mode = wal")
        found.execute("pragma synchronous = normal")
        return found
