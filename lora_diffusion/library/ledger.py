"""Every change is an event, and every row is the sum of its events.

An event holds who, when, why, the columns that changed before and after, and a hash over all of that and the hash of
the event before it (as git and certificate logs do). So a byte that is changed in a row differs from what its events
say, and one that is changed in an event breaks the chain. Rows are never deleted.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from lora_diffusion.library.schema import KEYS

__all__ = ["Writing", "event_hash", "fold", "row_name"]

Row = dict[str, Any]
_EVENT = ("number", "at", "by", "what", "subject", "reason", "before", "after", "previous")


class Writing:
    """The changes of one transaction, which `finish` turns into one event."""

    def __init__(self, connection: sqlite3.Connection, *, by: str, when: str, reason: str) -> None:
        self.connection = connection
        self.by = by
        self.when = when
        self.reason = reason
        self.finished = False
        self._before: dict[str, Row] = {}
        self._after: dict[str, Row] = {}

    def put(self, table: str, **values: Any) -> None:
        """Insert a row, or change the one with the same key; columns that are not given stay."""
        key = {column: values[column] for column in KEYS[table]}
        where = " AND ".join(f'"{column}" = ?' for column in key)
        found = self.connection.execute(f"SELECT * FROM {table} WHERE {where}", tuple(key.values())).fetchone()
        old: Row = dict(found) if found else {}
        new = {column: value for column, value in values.items() if not old or old[column] != value}
        if old and not new:
            return
        if old:
            places = ", ".join(f'"{column}" = ?' for column in new)
            self.connection.execute(f"UPDATE {table} SET {places} WHERE {where}", (*new.values(), *key.values()))
        else:
            names, marks = ", ".join(f'"{column}"' for column in new), ", ".join("?" * len(new))
            self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(new.values()))
        self._record(row_name(table, key), {column: old[column] for column in new if old}, new)

    def _record(self, name: str, before: Row, after: Row) -> None:
        known = self._after.setdefault(name, {})
        if before:
            self._before.setdefault(name, {}).update({key: each for key, each in before.items() if key not in known})
        known.update(after)

    def finish(self, what: str, subject: str, *, changes_rows: bool = True) -> bool:
        """Write the event, which makes the changes count; return False where nothing was changed.

        Without `changes_rows` the event itself is all there is to keep.
        """
        if changes_rows and not self._after:
            return False
        last = self.connection.execute("SELECT number, hash FROM events ORDER BY number DESC LIMIT 1").fetchone()
        event = {
            "number": last["number"] + 1 if last else 1,
            "at": self.when,
            "by": self.by,
            "what": what,
            "subject": subject,
            "reason": self.reason,
            "before": _json(self._before),
            "after": _json(self._after),
            "previous": last["hash"] if last else "",
        }
        values = (*event.values(), event_hash(event))
        self.connection.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(values))})", values)
        self.finished = True
        return True


def row_name(table: str, row: Mapping[str, Any]) -> str:
    """Return how events name a row: versions/ID/3."""
    return "/".join([table, *(str(row[column]) for column in KEYS[table])])


def event_hash(event: Mapping[str, Any]) -> str:
    """Return the SHA-256 that seals an event: over all its columns but the hash, so also over the hash before."""
    return hashlib.sha256(_json([event[column] for column in _EVENT]).encode("utf-8", "surrogatepass")).hexdigest()


def fold(events: Iterable[Mapping[str, Any]], defaults: Mapping[str, Row]) -> dict[str, Row]:
    """Return every row as its events leave it, by name; `defaults` are those of the columns of each table."""
    rows: dict[str, Row] = {}
    for event in events:
        for name, columns in json.loads(event["after"]).items():
            table = name.partition("/")[0]
            rows.setdefault(name, dict(defaults.get(table, {}))).update(columns)
    return rows


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=repr)
