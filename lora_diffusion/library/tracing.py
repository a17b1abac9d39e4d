"""What was made of what, and what a withdrawn training picture touches."""

import json
import sqlite3
from collections.abc import Iterable

from lora_diffusion.errors import UsageError
from lora_diffusion.library.pictures import picture_of
from lora_diffusion.library.rows import VERSIONS, find, require_hash, version_of
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import LibraryPicture, Uses, Version, Withdrawal

__all__ = ["reinstate", "trained_on", "where_used", "withdraw", "withdrawals", "withdrawn"]

_TRAINED = "train"


def where_used(store: Store, ref: str) -> Uses:
    """Return what was made of a version; as `Library.where_used` says."""
    with store.reading() as connection:
        prints = {str(find(connection, ref)["fingerprint"])}
        children = _children(connection, prints)
        return Uses(
            blends=tuple(version_of(row) for row in children if row["method"] != _TRAINED),
            continued=tuple(version_of(row) for row in children if row["method"] == _TRAINED),
            pictures=_drawn_with(store, connection, prints),
        )


def _children(connection: sqlite3.Connection, prints: Iterable[str]) -> list[sqlite3.Row]:
    """Return the versions with any of these fingerprints among their parents."""
    return connection.execute(
        f"{VERSIONS} WHERE EXISTS (SELECT 1 FROM parents p WHERE p.adapter = v.adapter AND p.number = v.number"
        " AND p.fingerprint IN (SELECT value FROM json_each(?))) ORDER BY v.rowid",
        (json.dumps(sorted(prints)),),
    ).fetchall()


def _drawn_with(store: Store, connection: sqlite3.Connection, prints: Iterable[str]) -> tuple[LibraryPicture, ...]:
    rows = connection.execute(
        "SELECT * FROM pictures WHERE id IN (SELECT picture FROM picture_adapters WHERE fingerprint IN"
        " (SELECT value FROM json_each(?))) ORDER BY place DESC",
        (json.dumps(sorted(prints)),),
    ).fetchall()
    return tuple(picture_of(connection, store.objects, row) for row in rows)


def _descendants(connection: sqlite3.Connection, rows: list[sqlite3.Row]) -> list[sqlite3.Row]:
    """Return what was made of these versions at any distance, without them."""
    met = {(row["adapter"], row["number"]) for row in rows}
    result: list[sqlite3.Row] = []
    prints = {row["fingerprint"] for row in rows}
    while prints:
        new = [row for row in _children(connection, prints) if (row["adapter"], row["number"]) not in met]
        met |= {(row["adapter"], row["number"]) for row in new}
        result += new
        prints = {row["fingerprint"] for row in new}
    return result


def _trained_on(connection: sqlite3.Connection, sha256: str) -> list[sqlite3.Row]:
    return connection.execute(
        f"{VERSIONS} WHERE v.manifest IN (SELECT id FROM manifests WHERE instr(images, ?)) ORDER BY v.rowid",
        (f'["{sha256}",',),
    ).fetchall()


def trained_on(store: Store, sha256: str) -> list[Version]:
    """Return the versions with this training picture."""
    with store.reading() as connection:
        return [version_of(row) for row in _trained_on(connection, require_hash(sha256))]


def withdraw(store: Store, sha256: str, *, by: str, when: str, reason: str) -> Withdrawal:
    """Record a withdrawn picture and block what it is in; as `Library.withdraw` says."""
    sha256 = require_hash(sha256)
    if not reason.strip():
        raise UsageError(f"picture {sha256} is withdrawn without a reason", hint="say why; it is shown to everybody")
    with store.writing(by=by, when=when, reason=reason) as writing:
        known = _reason(writing.connection, sha256)
        if not known:
            writing.put("withdrawals", sha256=sha256, at=when, by=by, reason=reason, lifted="")
        for row in _touched(writing.connection, sha256):
            if not row["blocked"]:
                writing.put("versions", adapter=row["adapter"], number=row["number"], blocked=reason)
        writing.finish("withdraw", f"image:{sha256}")
        return _withdrawal(store, writing.connection, sha256, known or reason)


def reinstate(store: Store, sha256: str, *, by: str, when: str, reason: str) -> tuple[Version, ...]:
    """Take a withdrawal back; as `Library.reinstate` says."""
    sha256 = require_hash(sha256)
    if not reason.strip():
        raise UsageError(f"picture {sha256} is reinstated without a reason", hint="say why it may be used again")
    with store.writing(by=by, when=when, reason=reason) as writing:
        if not _reason(writing.connection, sha256):
            raise UsageError(f"picture {sha256} is not withdrawn", hint="look at `lora-diffusion library withdrawals`")
        writing.put("withdrawals", sha256=sha256, lifted=reason)
        left = _blocked(writing.connection)
        touched = _touched(writing.connection, sha256)
        for row in touched:
            key = {"adapter": row["adapter"], "number": row["number"]}
            writing.put("versions", **key, blocked=left.get((row["adapter"], row["number"]), ""))
        writing.finish("reinstate", f"image:{sha256}")
        return tuple(version_of(row) for row in _touched(writing.connection, sha256) if not row["blocked"])


def _reason(connection: sqlite3.Connection, sha256: str) -> str:
    """Return why a picture is withdrawn now, or nothing."""
    row = connection.execute("SELECT reason FROM withdrawals WHERE sha256 = ? AND lifted = ''", (sha256,)).fetchone()
    return str(row["reason"]) if row else ""


def _withdrawn(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return connection.execute("SELECT sha256, reason FROM withdrawals WHERE lifted = '' ORDER BY rowid").fetchall()


def _blocked(connection: sqlite3.Connection) -> dict[tuple[str, int], str]:
    """Return the reason for each version that a picture touches which is withdrawn now."""
    found: dict[tuple[str, int], str] = {}
    for each in _withdrawn(connection):
        for row in _touched(connection, each["sha256"]):
            found.setdefault((row["adapter"], row["number"]), each["reason"])
    return found


def _touched(connection: sqlite3.Connection, sha256: str) -> list[sqlite3.Row]:
    trained = _trained_on(connection, sha256)
    return [*trained, *_descendants(connection, trained)]


def _withdrawal(store: Store, connection: sqlite3.Connection, sha256: str, reason: str) -> Withdrawal:
    trained = _trained_on(connection, sha256)
    made = _descendants(connection, trained)
    return Withdrawal(
        sha256=sha256,
        reason=reason,
        versions=tuple(version_of(row) for row in trained),
        descendants=tuple(version_of(row) for row in made),
        pictures=_drawn_with(store, connection, {row["fingerprint"] for row in (*trained, *made)}),
    )


def withdrawn(store: Store) -> dict[str, str]:
    """Return why pictures are withdrawn now, by hash, oldest first."""
    with store.reading() as connection:
        return {row["sha256"]: row["reason"] for row in _withdrawn(connection)}


def withdrawals(store: Store) -> list[Withdrawal]:
    """Return what is withdrawn, oldest first."""
    with store.reading() as connection:
        return [_withdrawal(store, connection, row["sha256"], row["reason"]) for row in _withdrawn(connection)]
