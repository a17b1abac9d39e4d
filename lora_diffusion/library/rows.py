"""From rows of the database to values, and back."""

import json
import math
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.library.naming import APPROVED, is_id, key_of, parse_reference, require_name
from lora_diffusion.library.objects import Objects
from lora_diffusion.library.store import require_text
from lora_diffusion.library.values import Details, Facts, Lineage, Sample, Version
from lora_diffusion.parts import parse_part

__all__ = [
    "VERSIONS",
    "adapter_named",
    "check_details",
    "columns_of",
    "find",
    "lineage_of",
    "object_path",
    "require_hash",
    "samples_of",
    "version_of",
]

VERSIONS = """SELECT v.*, a.name AS name, a.current AS current, o.bytes AS bytes, coalesce(m.count, 0) AS images
FROM versions v JOIN adapters a ON a.id = v.adapter JOIN objects o ON o.sha256 = v.sha256
LEFT JOIN manifests m ON m.id = v.manifest"""

_DETAILS = tuple(field.name for field in fields(Details))
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_TAG = 64
_MAX_LINE = 1000


def adapter_named(connection: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    """Return the row of a name, in any case, or of its id."""
    by_id = is_id(name)
    row: sqlite3.Row | None = connection.execute(
        f"SELECT * FROM adapters WHERE {'id' if by_id else 'key'} = ?", (name if by_id else key_of(require_name(name)),)
    ).fetchone()
    return row


def find(connection: sqlite3.Connection, ref: str) -> sqlite3.Row:
    """Return the row of VERSIONS that a reference means. Raises UsageError naming what there is instead."""
    asked = parse_reference(ref)
    adapter = adapter_named(connection, asked.name)
    if adapter is None:
        raise _unknown_name(connection, asked.name)
    numbers = _numbers(connection, adapter["id"])
    wanted = _wanted(adapter, asked.which, numbers)
    if wanted not in numbers:
        held = ", ".join(f"{number} ({stage})" for number, stage in list(numbers.items())[-8:])
        raise UsageError(f"{adapter['name']} has no version {asked.which}", hint=f"versions are {held}")
    row = connection.execute(f"{VERSIONS} WHERE v.adapter = ? AND v.number = ?", (adapter["id"], wanted)).fetchone()
    return row  # type: ignore[no-any-return]


def _numbers(connection: sqlite3.Connection, adapter: str) -> dict[int, str]:
    rows = connection.execute("SELECT number, stage FROM versions WHERE adapter = ? ORDER BY number", (adapter,))
    return {row["number"]: row["stage"] for row in rows}


def _wanted(adapter: sqlite3.Row, which: str, numbers: Mapping[int, str]) -> int:
    current = int(adapter["current"])
    if not which:
        return current
    if which != APPROVED:
        return int(which)
    approved = [number for number, stage in numbers.items() if stage == APPROVED]
    return current if current in approved else max(approved, default=0)


def _unknown_name(connection: sqlite3.Connection, name: str) -> UsageError:
    known = {row["key"]: row["name"] for row in connection.execute("SELECT key, name FROM adapters ORDER BY key")}
    close = [known[key] for key in get_close_matches(key_of(name), known, n=3, cutoff=0.5)]
    if close:
        return UsageError(f"the library has no adapter {name!r}", hint=f"did you mean {' or '.join(close)}?")
    held = ", ".join(list(known.values())[:8])
    hint = f"adapters are {held}" if held else "it is empty: add one"
    return UsageError(f"the library has no adapter {name!r}", hint=hint)


def version_of(row: sqlite3.Row) -> Version:
    """Return a row of VERSIONS as a value."""
    return Version(
        id=row["adapter"],
        name=row["name"],
        number=row["number"],
        stage=row["stage"],
        current=row["current"] == row["number"],
        blocked=row["blocked"],
        sha256=row["sha256"],
        bytes=row["bytes"],
        fingerprint=row["fingerprint"],
        family=row["family"],
        at=row["at"],
        by=row["by"],
        images=row["images"],
        details=_details_of(row),
        facts=_facts_of(json.loads(row["facts"])),
    )


def _details_of(row: sqlite3.Row) -> Details:
    values = {name: row[name] for name in _DETAILS}
    return Details(**{**values, "tags": tuple(json.loads(row["tags"])), "presets": json.loads(row["presets"])})


def _facts_of(found: dict[str, Any]) -> Facts:
    values: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in found.items()}
    return Facts(**values)


def columns_of(details: Details) -> dict[str, Any]:
    """Return the columns of `versions` that hold details."""
    values = {name: getattr(details, name) for name in _DETAILS}
    presets = json.dumps(dict(details.presets), ensure_ascii=False)
    return {**values, "tags": json.dumps(list(details.tags), ensure_ascii=False), "presets": presets}


def check_details(details: Details) -> None:
    """Raise UsageError for weights that are no numbers or no range, a date or preset that does not read, a bad tag."""
    _check_kinds(details)
    weights = [each for each in (details.weight_low, details.weight, details.weight_high) if each is not None]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in weights):
        raise UsageError(f"the weights {weights} are no numbers", hint="give numbers such as 0.8")
    if weights != sorted(weights):
        raise UsageError(f"the weights {weights} are no range", hint="weight_low <= weight <= weight_high")
    for tag in details.tags:
        if not require_text("tag", tag, _MAX_TAG).strip():
            raise UsageError("a tag is empty", hint="leave it out")
    _check_date(details.expires)
    for name, preset in details.presets.items():
        require_text("name of a preset", name, _MAX_TAG)
        parse_part(f"preset.safetensors:{preset}")


def _check_kinds(details: Details) -> None:
    """Pages and programs hand over what people typed."""
    for field in fields(Details):
        value = getattr(details, field.name)
        if field.default == "":
            if not isinstance(value, str):
                raise UsageError(f"{field.name} is {value!r}", hint="give a text")
            require_text(field.name, value)
    texts = [*details.tags, *details.presets, *details.presets.values()] if _are_lists(details) else [None]
    if not all(isinstance(each, str) for each in texts):
        raise UsageError(
            "tags or presets are no lists of texts", hint='give tags as ["a", "b"], presets as {"a": "0.5"}'
        )


def _are_lists(details: Details) -> bool:
    return isinstance(details.tags, tuple) and isinstance(details.presets, Mapping)


def _check_date(expires: str) -> None:
    try:
        readable = not expires or date.fromisoformat(expires).isoformat() == expires
    except ValueError:
        readable = False
    if not readable:
        raise UsageError(f"{expires!a} is no date", hint="write YYYY-MM-DD")


def require_hash(sha256: str) -> str:
    """Return a SHA-256 in lower case. Raises UsageError for anything else."""
    if not _HASH.fullmatch(sha256.lower()):
        raise UsageError(f"{sha256[:80]!a} is no SHA-256", hint="give its 64 hexadecimal digits")
    return sha256.lower()


def lineage_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Lineage:
    """Return where a version comes from; parents that the library has are named by reference."""
    manifest = connection.execute("SELECT images FROM manifests WHERE id = ?", (row["manifest"],)).fetchone()
    parents = connection.execute(
        "SELECT fingerprint, name, weight FROM parents WHERE adapter = ? AND number = ? ORDER BY place",
        (row["adapter"], row["number"]),
    )
    return Lineage(
        manifest=tuple((sha256, file) for sha256, file in json.loads(manifest["images"])) if manifest else (),
        plan=row["plan"],
        run=row["run"],
        parents=tuple((ref_of(connection, each["fingerprint"], each["name"]), each["weight"]) for each in parents),
        method=row["method"],
    )


def ref_of(connection: sqlite3.Connection, fingerprint: str, name: str = "") -> str:
    """Return NAME@NUMBER of what has this fingerprint, of several what it was called, else the fingerprint."""
    refs = [
        f"{row['name']}@{row['number']}"
        for row in connection.execute(f"{VERSIONS} WHERE v.fingerprint = ? ORDER BY v.rowid", (fingerprint,))
    ]
    return name if name in refs else refs[0] if refs else fingerprint


def object_path(connection: sqlite3.Connection, objects: Objects, sha256: str, *, checked: bool = True) -> Path:
    """Return where an object lies. Raises CorruptFile where it is gone or changed, unless that is not `checked`."""
    row = connection.execute("SELECT * FROM objects WHERE sha256 = ?", (sha256,)).fetchone()
    if row is None:
        raise UsageError(f"the library keeps no file {sha256[:80]}", hint="look at `lora-diffusion library show`")
    if not checked:
        return objects.path(sha256, row["suffix"])
    return objects.require(sha256, row["suffix"], row["bytes"])


def samples_of(connection: sqlite3.Connection, objects: Objects, row: sqlite3.Row) -> list[Sample]:
    """Return the samples of a version in the order in which they were added."""
    rows = connection.execute(
        "SELECT * FROM samples WHERE adapter = ? AND number = ? ORDER BY place", (row["adapter"], row["number"])
    )
    return [
        Sample(
            prompt=each["prompt"],
            seed=each["seed"],
            weight=each["weight"],
            sha256=each["sha256"],
            path=object_path(connection, objects, each["sha256"], checked=False),
        )
        for each in rows
    ]
