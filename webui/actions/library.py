"""The library of styles: versions, stages, where they come from and where they went."""

import secrets
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lora_diffusion import Comment, Comparison, Event, Sample, Uses, Version, Withdrawal, picture_folder
from webui.actions import At, action
from webui.actions.bases import DEMO, path_of
from webui.actions.pictures import Uploaded
from webui.commands import run_cli
from webui.errors import BadRequest
from webui.release import require_release

__all__ = ["Origin", "Ref", "Stage", "Words", "pictures_of"]

Ref = Annotated[str, Field(min_length=1, max_length=80)]
Words = Annotated[str, Field(max_length=200)]
Reason = Annotated[str, Field(max_length=2000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Stage = Literal["draft", "in_review", "approved", "retired"]

SAMPLES = {DEMO: ("a rocket icon", "a guitar icon", "a penguin icon")}
"""What samples show by base model: things that its pictures can show at all."""
USUAL = ("a lighthouse on a cliff", "portrait of a woman with a hat", "a cup of coffee on a table")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a version comes from. `pictures` are its training pictures as (hash, file name, file, empty if gone)."""

    method: str
    run: str
    plan: str
    parents: tuple[tuple[str, float], ...]
    pictures: tuple[tuple[str, str, Path | None], ...]


@action(role="viewer", writes=False, same_as="library list")
def list_(
    at: At, *, text: Words = "", stage: Stage | Literal[""] = "", family: Words = "", tag: Words = "", name: Words = "",
    every: bool = False,
) -> list[Version]:  # fmt: skip
    """List styles; without `every` the current version of each name."""
    found = at.studio.library.versions(text=text, stage=stage, family=family, tag=tag, name=name, every=every)
    return list(found)


@action(role="viewer", writes=False, same_as="library show")
def show(at: At, *, ref: Ref) -> Version:
    """Show one version."""
    return at.studio.library.version(ref)


@action(role="viewer", writes=False, same_as="library show")
def samples(at: At, *, ref: Ref) -> list[Sample]:
    """Return the pictures that show a version."""
    return list(at.studio.library.samples(ref))


@action(role="viewer", writes=False, same_as="library show")
def origin(at: At, *, ref: Ref) -> Origin:
    """Return where a version comes from: pictures, plan, and what it was blended of."""
    found = at.studio.library.lineage(ref)
    folder = pictures_of(at, found.plan)
    pictures = [(sha256, name, _below(folder, name)) for sha256, name in found.manifest]
    return Origin(
        method=found.method, run=Path(found.run).name, plan=found.plan, parents=found.parents, pictures=tuple(pictures)
    )


def pictures_of(at: At, plan: str) -> Path | None:
    """Return the folder of the training pictures, where it is one that the studio may show."""
    try:
        named = str(tomllib.loads(plan)["data"]["folder"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        return None
    folder = picture_folder(named).resolve() if named.startswith("demo:") else Path(named).resolve()
    return folder if named.startswith("demo:") or folder.is_relative_to(at.studio.home) else None


def _below(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder) and path.is_file() else None


@action(role="viewer", writes=False, same_as="library history")
def history(at: At, *, ref: Ref, limit: Annotated[int, Field(ge=1, le=500)] = 100) -> list[Event]:
    """List what happened to a version or to all versions of a name, newest first."""
    return list(at.studio.library.history(ref, limit=limit))


@action(role="viewer", writes=False, same_as="library compare")
def compare(at: At, *, first: Ref, second: Ref) -> Comparison:
    """Say what tells two versions apart, with their samples side by side."""
    return at.studio.library.compare(first, second)


@action(role="viewer", writes=False, same_as="library where-used")
def where_used(at: At, *, ref: Ref) -> Uses:
    """List the blends made of a version and the pictures drawn with it."""
    return at.studio.library.where_used(ref)


@action(role="trainer", writes=False, same_as="library describe")
def describe(
    at: At,
    *,
    ref: Ref,
    trigger: Words | None = None,
    weight: Annotated[float, Field(ge=-2, le=2)] | None = None,
    weight_low: Annotated[float, Field(ge=-2, le=2)] | Literal[""] | None = None,
    weight_high: Annotated[float, Field(ge=-2, le=2)] | Literal[""] | None = None,
    tags: Annotated[tuple[Words, ...], Field(max_length=30)] | None = None,
    licence: Words | None = None,
    expires: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] | None = None,
    owner: Words | None = None,
    notes: Annotated[str, Field(max_length=10_000)] | None = None,
    card: Annotated[str, Field(max_length=10_000)] | None = None,
) -> Version:
    """Change what is said about a version; what is left out stays, what is given empty is taken away."""
    given = {
        "trigger": trigger, "weight": weight, "weight_low": weight_low, "weight_high": weight_high, "tags": tags,
        "licence": licence, "expires": expires, "owner": owner, "notes": notes, "card": card,
    }  # fmt: skip
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    changes |= {key: None for key in ("weight_low", "weight_high") if changes.get(key) == ""}
    return at.studio.library.describe(ref, by=at.user.name, when=at.when, **changes)


@action(role="trainer", writes=False, same_as="library promote")
def submit(at: At, *, ref: Ref, reason: Reason = "") -> Version:
    """Hand a draft in for approval."""
    return at.studio.library.promote(ref, "in_review", by=at.user.name, when=at.when, reason=reason)


@action(role="approver", writes=False, same_as="library promote")
def promote(at: At, *, ref: Ref, stage: Stage, reason: Reason = "") -> Version:
    """Move a version to another stage: send it back, retire it, take it up again. `review.approve` approves."""
    if stage == "approved" and at.studio.library.version(ref).stage == "in_review":
        raise BadRequest(f"{ref} waits for approval", hint="approve it under Review, where its checks are")
    return at.studio.library.promote(ref, stage, by=at.user.name, when=at.when, reason=reason)


@action(role="approver", writes=False, same_as="library rollback")
def rollback(at: At, *, name: Ref, number: Annotated[int, Field(ge=1, lt=2**31)], reason: Reason) -> Version:
    """Let a name mean an earlier approved version again; no file is touched."""
    return at.studio.library.rollback(name, number, by=at.user.name, when=at.when, reason=reason)


@action(role="trainer", writes=False, same_as="library rename")
def rename(at: At, *, name: Ref, new: Ref, reason: Reason = "") -> Version:
    """Give all versions of a name another one."""
    return at.studio.library.rename(name, new, by=at.user.name, when=at.when, reason=reason)


@action(role="viewer", writes=False, same_as="library comment")
def comments(at: At, *, ref: Ref) -> list[Comment]:
    """Return what was said about a version."""
    return list(at.studio.library.comments(ref))


@action(role="creator", writes=False, same_as="library comment")
def comment(at: At, *, ref: Ref, text: Annotated[str, Field(min_length=1, max_length=2000)]) -> Comment:
    """Say something about a version."""
    return at.studio.library.comment(ref, text, by=at.user.name, when=at.when)


@action(role="approver", writes=False, same_as="library withdraw")
def withdraw(at: At, *, sha256: Sha256, reason: Annotated[str, Field(min_length=1, max_length=2000)]) -> Withdrawal:
    """Record that a training picture may no longer be used, and block every style that it is in."""
    return at.studio.library.withdraw(sha256, by=at.user.name, when=at.when, reason=reason)


@action(role="creator", same_as="library pack")
def pack(at: At, *, ref: Ref, privacy: Literal["public", "team", "private"] = "team") -> Path:
    """Write one zip of a version: adapter, card, samples and their hashes. Who may is as for `export.write`."""
    version = at.studio.library.version(ref)
    require_release(at.user, version, archived=privacy == "private")
    out = at.studio.home / "exports" / secrets.token_hex(8) / "style.zip"
    out.parent.mkdir(parents=True)
    run_cli(["library", "pack", version.ref, str(out), "--privacy", privacy, "--home", str(at.studio.home)])
    return out


@action(role="trainer", same_as="library unpack|add")
def take_in(at: At, *, upload: Uploaded, name: Words = "") -> Version:
    """Add a package, or an adapter file of this or another program, as a draft. Nothing in it is trusted."""
    path = at.studio.upload(upload, at.user)
    verb = "unpack" if path.suffix.lower() == ".zip" else "add"
    named = [f"--name={name or path.stem}"] if name or verb == "add" else []
    found = run_cli(["library", verb, str(path), *named, f"--by={at.user.name}", "--home", str(at.studio.home)])
    return at.studio.library.version(found["ref"])


@action(role="creator", writes=False, same_as="library sample")
def draw_samples(at: At, *, ref: Ref) -> Iterator[dict[str, Any]]:
    """Draw what the studio draws for every style, at fixed prompts and seeds, and keep it as samples."""
    version = at.studio.library.version(ref)
    base = at.studio.shared_setting("base", DEMO)
    return _sampled(at, version, SAMPLES.get(base, USUAL))


def _sampled(at: At, version: Version, prompts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    path = at.studio.library.path(version.ref)
    folder = at.studio.home / "pictures" / secrets.token_hex(8)
    folder.mkdir(parents=True)
    try:
        for number, subject in enumerate(prompts):
            trigger = version.details.trigger
            prompt = f"{trigger}, {subject}" if trigger else subject
            request = {
                "do": "draw", "base": path_of(at, ""), "parts": [f"{path}:{version.details.weight!r}"],
                "names": {str(path): version.ref}, "prompt": prompt, "seed": number, "steps": 20, "folder": str(folder),
            }  # fmt: skip
            for event in at.studio.painter.draw(request, user=at.user.name):
                if event["event"] == "picture":
                    at.studio.library.add_sample(
                        version.ref, event["path"], by=at.user.name, when=at.when, prompt=prompt, seed=number,
                        weight=version.details.weight,
                    )  # fmt: skip
                    yield {"event": "sample", "part": (number + 1) / len(prompts)}
                elif event["event"] in ("failed", "stopped"):
                    yield {"event": event["event"], "reason": event.get("reason", ""), "hint": event.get("hint", "")}
                    return
                elif event["event"] == "step":
                    yield {"event": "step", "part": (number + event["done"] / event["of"]) / len(prompts)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
