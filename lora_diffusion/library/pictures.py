"""Drawn pictures that are kept, and what was said about them."""

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.library.adding import fingerprint_of, keep_picture
from lora_diffusion.library.objects import Objects
from lora_diffusion.library.rows import object_path, ref_of
from lora_diffusion.library.store import Store, require_text
from lora_diffusion.library.values import LibraryPicture
from lora_diffusion.parts import require_finite

__all__ = ["STATES", "add_picture", "change_picture", "picture", "picture_of", "pictures"]

STATES = ("", "approved", "off_brand")
_MOST = 1000


def add_picture(
    store: Store,
    path: Path,
    *,
    by: str,
    when: str,
    settings: Mapping[str, Any],
    adapters: Sequence[tuple[str, float]],
) -> LibraryPicture:
    """Keep a picture with its settings; as `Library.add_picture` says."""
    text = _settings(settings)
    for ref, weight in adapters:
        require_finite(ref, weight)
    with store.reading() as connection:
        for ref, _ in adapters:
            fingerprint_of(connection, ref)
    kept = keep_picture(store.objects, path)
    key = secrets.token_hex(16)
    with store.writing(by=by, when=when) as writing:
        place = writing.connection.execute("SELECT coalesce(max(place), 0) + 1 FROM pictures").fetchone()[0]
        writing.put("objects", **asdict(kept))
        writing.put(
            "pictures",
            id=key,
            place=place,
            sha256=kept.sha256,
            at=when,
            by=by,
            prompt=str(settings.get("prompt", "")),
            settings=text,
            starred=0,
            state="",
            reason="",
        )
        for number, (ref, weight) in enumerate(adapters):
            fingerprint, name = fingerprint_of(writing.connection, ref)
            writing.put(
                "picture_adapters",
                picture=key,
                place=number,
                fingerprint=fingerprint,
                name=name,
                weight=float(weight),
            )
        writing.finish("add picture", f"picture:{key}")
        return picture_of(writing.connection, store.objects, _row(writing.connection, key))


def _settings(settings: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(settings), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the settings of a picture are no JSON: {error}", hint="give plain values") from error
    return require_text("settings of a picture", text, 1_000_000)


def _row(connection: sqlite3.Connection, key: str) -> sqlite3.Row:
    row = connection.execute("SELECT * FROM pictures WHERE id = ?", (key,)).fetchone()
    if row is None:
        raise UsageError(f"the library has no picture {key[:80]!a}", hint="look at `lora-diffusion library pictures`")
    return row  # type: ignore[no-any-return]


def picture_of(connection: sqlite3.Connection, objects: Objects, row: sqlite3.Row) -> LibraryPicture:
    """Return a row of `pictures` as a value."""
    used = connection.execute("SELECT * FROM picture_adapters WHERE picture = ? ORDER BY place", (row["id"],))
    return LibraryPicture(
        id=row["id"],
        sha256=row["sha256"],
        path=object_path(connection, objects, row["sha256"], checked=False),
        at=row["at"],
        by=row["by"],
        settings=json.loads(row["settings"]),
        adapters=tuple((ref_of(connection, each["fingerprint"], each["name"]), each["weight"]) for each in used),
        starred=bool(row["starred"]),
        state=row["state"],
        reason=row["reason"],
    )


def picture(store: Store, key: str) -> LibraryPicture:
    """Return a picture by its id. Raises UsageError where there is none."""
    with store.reading() as connection:
        return picture_of(connection, store.objects, _row(connection, key))


def pictures(
    store: Store, *, text: str, by: str, starred: bool | None, state: str | None, before: str, limit: int
) -> list[LibraryPicture]:
    """Return a page of pictures, newest first; as `Library.pictures` says."""
    if not 1 <= limit <= _MOST:
        raise UsageError(f"{limit} pictures at once are none, or more than {_MOST}", hint="ask in several pages")
    conditions: list[tuple[str, Any]] = [("instr(folded(prompt), ?)", word.casefold()) for word in text.split()]
    conditions += [("by = ?", by)] if by else []
    conditions += [] if starred is None else [("starred = ?", int(starred))]
    conditions += [] if state is None else [("state = ?", state)]
    with store.reading() as connection:
        conditions += [("place < ?", _row(connection, before)["place"])] if before else []
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        found = connection.execute(
            f"SELECT * FROM pictures WHERE {where} ORDER BY place DESC LIMIT ?",
            (*(value for _, value in conditions), limit),
        ).fetchall()
        return [picture_of(connection, store.objects, row) for row in found]


def change_picture(store: Store, key: str, what: str, *, by: str, when: str, **values: Any) -> LibraryPicture:
    """Change columns of a picture; `values` holds the reason where the change needs one."""
    with store.writing(by=by, when=when, reason=str(values.get("reason", ""))) as writing:
        _row(writing.connection, key)
        writing.put("pictures", id=key, **values)
        writing.finish(what, f"picture:{key}")
        return picture_of(writing.connection, store.objects, _row(writing.connection, key))
