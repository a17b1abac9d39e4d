"""Read everything that a library holds, and find what is not as it was written."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets_tools.finding import blocks, notes
from datasets_tools.storage import sha256_file
from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.library.ledger import event_hash, fold, row_name
from lora_diffusion.library.schema import KEYS, MIGRATIONS, migrate
from lora_diffusion.library.store import DATABASE, Store
from lora_diffusion.library.values import Fault

__all__ = ["verify"]

_BACKUP = "put back a backup of library.db; files in objects can stay"
_OBJECT = "add the same file again, or put back a backup of it"


def verify(store: Store, head: str) -> list[Fault]:
    """Return every fault in database, history, rows and objects; as `Library.verify` says."""
    try:
        with store.reading() as connection:
            faults = [*_database(connection), *_history(connection, head), *_rows(connection)]
            kept = {row["sha256"]: row for row in _all(connection, "objects")}
    except LoraDiffusionError as error:
        code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
        if error.__cause__ is None or code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return [blocks("database", DATABASE, str(error.__cause__), _BACKUP)]
    return [*faults, *_objects(store, kept)]


def _database(connection: sqlite3.Connection) -> Iterator[Fault]:
    for row in connection.execute("PRAGMA integrity_check"):
        if row[0] != "ok":
            yield blocks("database", DATABASE, str(row[0]), _BACKUP)
    names = [each.name for each in MIGRATIONS]
    found = [(row["number"], row["name"]) for row in _all(connection, "migrations")]
    if found != list(enumerate(names, 1)):
        yield blocks("migrations", DATABASE, "the list of migrations was changed", _BACKUP)
    if _schema(connection) != _expected_schema():
        yield blocks("schema", DATABASE, "the tables are not those of this version", _BACKUP)


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return {(row[0], row[1] or "") for row in connection.execute("SELECT name, sql FROM sqlite_master")}


def _expected_schema() -> set[tuple[str, str]]:
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(fresh)
        return _schema(fresh)
    finally:
        fresh.close()


def _history(connection: sqlite3.Connection, head: str) -> Iterator[Fault]:
    previous, number, heads = "", 0, set()
    for row in connection.execute("SELECT * FROM events ORDER BY number"):
        number += 1
        where = f"{DATABASE}: events/{row['number']}"
        if row["number"] != number or row["previous"] != previous:
            yield blocks("history", where, f"the history breaks before event {row['number']}", _BACKUP)
        if event_hash(row) != row["hash"]:
            yield blocks("event", where, "the event is not what was written", _BACKUP)
        number, previous = row["number"], row["hash"]
        heads.add(previous)
    if head and head not in heads:
        yield blocks("head", DATABASE, f"the history lacks event {head}", _BACKUP)


def _rows(connection: sqlite3.Connection) -> Iterator[Fault]:
    defaults = {table: _defaults(connection, table) for table in KEYS}
    try:
        expected = fold(connection.execute("SELECT after FROM events ORDER BY number"), defaults)
    except (ValueError, TypeError, AttributeError):
        return  # an event that does not parse is a fault of the history already
    for table in KEYS:
        for row in _all(connection, table):
            name = row_name(table, row)
            meant = expected.pop(name, None)
            if meant is None:
                yield blocks("row", f"{DATABASE}: {name}", "no event tells of this row", _BACKUP)
            elif wrong := [column for column in row if not _same(row[column], meant.get(column))]:
                said = f"{', '.join(wrong)} differ from the history"
                yield blocks("row", f"{DATABASE}: {name}", said, _BACKUP)
    for name in expected:
        yield blocks("row", f"{DATABASE}: {name}", "the row is missing", _BACKUP)


def _same(found: Any, meant: Any) -> bool:
    return bool(found == meant) and (found is None) == (meant is None)


def _defaults(connection: sqlite3.Connection, table: str) -> dict[str, Any]:
    """Return what rows have in columns that came after them."""
    found = connection.execute(f"PRAGMA table_info({table})").fetchall()
    given = {row["name"]: row["dflt_value"] for row in found if row["dflt_value"] is not None}
    return {name: connection.execute(f"SELECT {default}").fetchone()[0] for name, default in given.items()}


def _all(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]


def _objects(store: Store, kept: Mapping[str, Mapping[str, Any]]) -> Iterator[Fault]:
    expected = {store.objects.path(sha256, row["suffix"]): row for sha256, row in kept.items()}
    for path, row in expected.items():
        if problem := _problem(path, row):
            yield blocks("object", _shown(path, store), problem, _OBJECT)
    for path in store.objects.files():
        if path not in expected:
            unknown = "no row names this file; a killed or refused change leaves such"
            yield notes("unknown", _shown(path, store), unknown, "remove it, or leave it")


def _problem(path: Path, row: Mapping[str, Any]) -> str:
    if path.is_symlink() or not path.is_file():
        return "the file is missing"
    if path.stat().st_size != row["bytes"]:
        return f"the file has {path.stat().st_size} bytes instead of {row['bytes']}"
    return "" if sha256_file(path) == row["sha256"] else "the content is not what was written"


def _shown(path: Path, store: Store) -> str:
    return path.relative_to(store.home).as_posix()
