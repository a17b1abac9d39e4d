"""What may change about a version: what is said of it, its stage, and which version a name means."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from lora_diffusion.blocks import nearest
from lora_diffusion.errors import UsageError
from lora_diffusion.library.adding import keep_picture
from lora_diffusion.library.ledger import Writing
from lora_diffusion.library.naming import is_id, key_of, require_name
from lora_diffusion.library.rows import (
    adapter_named,
    check_details,
    columns_of,
    find,
    object_path,
    version_of,
)
from lora_diffusion.library.store import Store, require_text
from lora_diffusion.library.values import STAGES, Comment, Details, Version

__all__ = ["BACK", "MOVES", "comment", "comments", "describe", "promote", "rename", "rollback"]

MOVES: Mapping[str, tuple[str, ...]] = {
    "draft": ("in_review",),
    "in_review": ("approved", "draft"),
    "approved": ("retired", "in_review"),
    "retired": ("approved", "draft"),
}
"""From each stage, the stages that may follow."""
BACK = frozenset({("in_review", "draft"), ("approved", "in_review"), ("retired", "draft")})
"""Moves that take something back from somebody, who is owed a reason."""
_MAX_COMMENT = 10_000


def _subject(row: Any) -> str:
    return f"{row['adapter']}@{row['number']}"


def _only_name(name: str) -> str:
    return name if is_id(name) else require_name(name)


def describe(store: Store, ref: str, *, by: str, when: str, changes: Mapping[str, Any]) -> Version:
    """Change details, and keep the picture of a thumbnail; as `Library.describe` says."""
    known = [field.name for field in fields(Details)]
    for key in changes:
        if key not in known:
            raise UsageError(f"a version has no {key!r}", hint=f"{nearest(key, known)}details are {', '.join(known)}")
    changes = dict(changes)
    picture = changes.get("thumbnail")
    others = {key: each for key, each in _tupled(changes).items() if key != "thumbnail"}
    with store.reading() as connection:
        check_details(replace(version_of(find(connection, ref)).details, **others))
    kept = keep_picture(store.objects, picture) if isinstance(picture, Path) else None
    if kept:
        changes["thumbnail"] = kept.sha256
    with store.writing(by=by, when=when) as writing:
        row = find(writing.connection, ref)
        if kept:
            writing.put("objects", **asdict(kept))
        elif picture:
            object_path(writing.connection, store.objects, str(picture), checked=False)
        details = replace(version_of(row).details, **_tupled(changes))
        check_details(details)
        writing.put("versions", adapter=row["adapter"], number=row["number"], **columns_of(details))
        writing.finish("describe", _subject(row))
        return version_of(find(writing.connection, f"{row['name']}@{row['number']}"))


def _tupled(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(each) if isinstance(each, list) else each for key, each in changes.items()}


def promote(store: Store, ref: str, stage: str, *, by: str, when: str, reason: str) -> Version:
    """Move a version to another stage; as `Library.promote` says."""
    if stage not in STAGES:
        raise UsageError(f"there is no stage {stage!r}", hint=f"{nearest(stage, STAGES)}stages are {', '.join(STAGES)}")
    with store.writing(by=by, when=when, reason=reason) as writing:
        row = find(writing.connection, ref)
        _require_move(row, stage, reason)
        writing.put("versions", adapter=row["adapter"], number=row["number"], stage=stage)
        _follow(writing, row, stage)
        writing.finish(f"{row['stage']} to {stage}", _subject(row))
        return version_of(find(writing.connection, f"{row['name']}@{row['number']}"))


def _require_move(row: Any, stage: str, reason: str) -> None:
    ref, now = f"{row['name']}@{row['number']}", row["stage"]
    if stage not in MOVES[now]:
        raise UsageError(f"{ref} is {now} and cannot become {stage}", hint=f"it can become {' or '.join(MOVES[now])}")
    if (now, stage) in BACK and not reason.strip():
        raise UsageError(f"{ref} goes back from {now} to {stage} without a reason", hint="say why, for its makers")
    if stage == "approved" and row["blocked"]:
        raise UsageError(
            f"{ref} is blocked and cannot be approved: {row['blocked']}",
            hint="train it again without the pictures that were withdrawn, and add that version",
        )


def _follow(writing: Writing, row: Any, stage: str) -> None:
    """Let the name mean what was just approved; where its version left, the newest that is approved or in use."""
    if stage == "approved":
        writing.put("adapters", id=row["adapter"], current=row["number"])
    elif row["stage"] == "approved" and row["current"] == row["number"]:
        newest = writing.connection.execute(
            "SELECT number FROM versions WHERE adapter = ?"
            " ORDER BY stage = 'approved' DESC, stage <> 'retired' DESC, number DESC LIMIT 1",
            (row["adapter"],),
        ).fetchone()
        writing.put("adapters", id=row["adapter"], current=newest["number"])


def rollback(store: Store, name: str, number: int, *, by: str, when: str, reason: str) -> Version:
    """Let a name mean an approved version again; as `Library.rollback` says."""
    if not reason.strip():
        raise UsageError(f"{name} goes back to version {number} without a reason", hint="say why")
    with store.writing(by=by, when=when, reason=reason) as writing:
        row = find(writing.connection, f"{_only_name(name)}@{number}")
        if row["stage"] != "approved" or row["blocked"]:
            why = f"blocked: {row['blocked']}" if row["blocked"] else row["stage"]
            said = f"{row['name']} cannot mean version {number}: it is {why}"
            raise UsageError(said, hint="go back to an approved version, or approve it")
        writing.put("adapters", id=row["adapter"], current=number)
        writing.finish("rollback", _subject(row))
        return version_of(find(writing.connection, f"{row['name']}@{number}"))


def rename(store: Store, name: str, new: str, *, by: str, when: str, reason: str) -> Version:
    """Give a name another one; raises UsageError where that is taken."""
    new = require_name(new)
    with store.writing(by=by, when=when, reason=reason) as writing:
        row = find(writing.connection, _only_name(name))
        other = adapter_named(writing.connection, new)
        if other is not None and other["id"] != row["adapter"]:
            raise UsageError(f"the library has an adapter {other['name']!r} already", hint="choose another name")
        writing.put("adapters", id=row["adapter"], name=new, key=key_of(new))
        writing.finish("rename", row["adapter"])
        return version_of(find(writing.connection, new))


def comment(store: Store, ref: str, text: str, *, by: str, when: str) -> Comment:
    """Add a comment to a version. Raises UsageError for an empty one."""
    if not require_text("comment", text, _MAX_COMMENT).strip():
        raise UsageError("the comment is empty", hint="write something")
    with store.writing(by=by, when=when) as writing:
        row = find(writing.connection, ref)
        last = writing.connection.execute("SELECT max(id) FROM comments").fetchone()[0] or 0
        key = {"adapter": row["adapter"], "number": row["number"]}
        writing.put("comments", id=last + 1, **key, at=when, by=by, text=text)
        writing.finish("comment", _subject(row))
    return Comment(ref=f"{row['name']}@{row['number']}", at=when, by=by, text=text)


def comments(store: Store, ref: str) -> list[Comment]:
    """Return the comments on a version, oldest first."""
    with store.reading() as connection:
        row = find(connection, ref)
        found = connection.execute(
            "SELECT * FROM comments WHERE adapter = ? AND number = ? ORDER BY id", (row["adapter"], row["number"])
        )
        called = f"{row['name']}@{row['number']}"
        return [Comment(ref=called, at=each["at"], by=each["by"], text=each["text"]) for each in found]
