"""The events as people read them."""

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.library.naming import parse_reference
from lora_diffusion.library.rows import adapter_named, find
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import Event

__all__ = ["head", "history", "record"]

_PICTURE = re.compile(r"picture:[0-9a-f]{32}|image:[0-9a-f]{64}")

_LONGEST = 200


def history(store: Store, ref_or_name: str, limit: int, before: int) -> list[Event]:
    """Return events, newest first; as `Library.history` says."""
    if limit < 1:
        raise UsageError(f"{limit} events are none", hint="ask for at least one")
    with store.reading() as connection:
        condition, values = _about(connection, ref_or_name)
        rows = connection.execute(
            f"SELECT * FROM events WHERE {condition} AND (? = 0 OR number < ?) ORDER BY number DESC LIMIT ?",
            (*values, before, before, limit),
        ).fetchall()
        names = {row["id"]: row["name"] for row in connection.execute("SELECT id, name FROM adapters")}
    return [_event(row, names) for row in rows]


def _about(connection: sqlite3.Connection, ref: str) -> tuple[str, tuple[str, ...]]:
    """Return the condition for a version, for a name with all its versions, for a picture, or for everything."""
    if not ref:
        return "1", ()
    if _PICTURE.fullmatch(ref):
        return "subject = ?", (ref,)
    if parse_reference(ref).which:
        row = find(connection, ref)
        return _touching("subject = ?"), (f"{row['adapter']}@{row['number']}", _row_of(row["adapter"], row["number"]))
    adapter = adapter_named(connection, ref) or find(connection, ref)  # which names the nearest
    at = adapter["id"]
    return _touching("subject = ? OR subject GLOB ?"), (at, f"{at}@*", _row_of(at))


def _touching(condition: str) -> str:
    """Withdrawals have a picture as their subject, and belong to every version that they block or free."""
    return f"({condition} OR (subject GLOB 'image:*' AND instr(after, ?)))"


def _row_of(adapter: str, number: int | None = None) -> str:
    return f'"versions/{adapter}/' if number is None else f'"versions/{adapter}/{number}"'


def _event(row: sqlite3.Row, names: dict[str, str]) -> Event:
    adapter, at, number = str(row["subject"]).partition("@")
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a row iterates over its values
    values |= {"before": json.loads(row["before"]), "after": json.loads(row["after"])}
    return Event(**{**values, "subject": f"{names.get(adapter, adapter)}{at}{number}"})


def head(store: Store) -> str:
    """Return the hash of the last event, or nothing."""
    with store.reading() as connection:
        row = connection.execute("SELECT hash FROM events ORDER BY number DESC LIMIT 1").fetchone()
        return str(row["hash"]) if row else ""


def record(store: Store, what: str, *, by: str, when: str, said: Mapping[str, Any]) -> None:
    """Write an event that changed no row; as `Library.record` says."""
    if not what.strip() or not what.isprintable() or len(what) > _LONGEST:
        raise UsageError(f"{what[:_LONGEST]!a} says not what was done", hint="give it a short name")
    try:
        reason = json.dumps(dict(said), ensure_ascii=False, allow_nan=False) if said else ""
    except (TypeError, ValueError) as error:
        raise UsageError(f"what was said to {what!r} is no JSON: {error}", hint="give plain values") from error
    with store.writing(by=by, when=when, reason=reason) as writing:
        writing.finish(what, "studio", changes_rows=False)
