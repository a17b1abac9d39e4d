"""Pictures: draw them, keep them with how they were made, find them again."""

import base64
import io
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from lora_diffusion import (
    LibraryPicture,
    LoraDiffusionError,
    Version,
    join_prompt,
    reusable_settings,
)
from lora_diffusion import samplers as known_samplers
from webui.actions import At, action
from webui.actions.bases import path_of
from webui.errors import BadRequest
from webui.reusing import MAX_WEIGHT, again

__all__ = ["Id", "Settings", "Side", "Style", "Text", "Uploaded", "require_in_use"]

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Text = Annotated[str, Field(max_length=4000)]
Side = Annotated[int, Field(ge=0, le=2048, multiple_of=8)]
Uploaded = Annotated[str, Field(max_length=500)]
Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
MAX_STYLES, MAX_GRID = 8, 64


class Style(BaseModel):
    """A style of the library in a picture; `weight` 1 is 100 %. `blocks` is what follows @ on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ref: Annotated[str, Field(min_length=1, max_length=80)]
    weight: Weight = 1.0
    blocks: Annotated[str, Field(max_length=200)] = ""
    schedule: Annotated[str, Field(max_length=200)] = ""


Words = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=MAX_STYLES)]
Styles = Annotated[tuple[Style, ...], Field(max_length=MAX_STYLES)]
Refs = Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(max_length=MAX_STYLES)]


class Settings(BaseModel):
    """What decides a picture, within what a shared machine can give. Sides of 0 are the base's, seed -1 is any."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prompt: Text = ""
    negative: Text = ""
    styles: Styles = ()
    base: Annotated[str, Field(max_length=80)] = ""
    seed: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    count: Annotated[int, Field(ge=1, le=8)] = 1
    width: Side = 0
    height: Side = 0
    steps: Annotated[int, Field(ge=1, le=100)] = 20
    guidance: Annotated[float, Field(ge=0, le=30)] | None = None
    sampler: Annotated[str, Field(max_length=40)] = ""
    start: Annotated[str, Field(max_length=500)] = ""
    strength: Annotated[float, Field(gt=0, le=1)] = 0.6


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """An event of a drawing: waiting, loading, step, preview, picture, done, stopped or failed, with what it says."""

    event: str
    done: int = 0
    total: int = 0
    number: int = 0
    before: int = 0
    preview: str = ""
    picture: LibraryPicture | None = None
    reason: str = ""
    hint: str = ""


@action(role="creator", same_as="generate")
def draw(at: At, *, settings: Settings, preview_every: Annotated[int, Field(ge=0, le=20)] = 0) -> Iterator[Drawn]:
    """Draw pictures and keep them; a script gets the pictures when all are done."""
    request, used = _request(at, settings)  # before the first event, so that refusals come at once
    return _drawing(at, {**request, "preview_every": preview_every}, lambda path, said: _kept(at, path, said, used))


@action(role="creator", writes=False, same_as="generate")
def sketch(at: At, *, settings: Settings) -> Iterator[Drawn]:
    """Draw a picture to look at while sliders move; it is not kept."""
    request, _ = _request(at, settings)
    return _drawing(at, request, lambda path, said: Drawn(event="picture", preview=_jpeg(path)))


def _drawing(at: At, request: Mapping[str, Any], take: Callable[[Path, Mapping[str, Any]], Drawn]) -> Iterator[Drawn]:
    folder = Path(str(request["folder"]))
    try:
        for event in at.studio.painter.draw(request, user=at.user.name):
            kind = event["event"]
            if kind == "picture":
                yield take(Path(event["path"]), event.get("settings") or {})
            elif kind == "step":
                yield Drawn(event=kind, done=event["done"], total=event["of"], number=event["picture"])
            elif kind == "preview":
                yield Drawn(event=kind, preview=event["jpeg"], number=event["picture"])
            else:
                reason, hint = str(event.get("reason", "")), str(event.get("hint", ""))
                yield Drawn(event=kind, before=int(event.get("before", 0)), reason=reason, hint=hint)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _request(at: At, settings: Settings) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what `lora-diffusion serve` is asked, and the styles by reference with their weights."""
    parts, names, used, schedules = [], {}, {}, {}
    for style in settings.styles:
        version = require_in_use(at, style)
        path = str(at.studio.library.path(version.ref))
        parts.append(f"{path}:{style.weight!r}" + (f"@{style.blocks}" if style.blocks else ""))
        names[path], used[version.ref] = version.ref, style.weight
        if style.schedule:
            schedules[version.ref] = style.schedule
    folder = at.studio.home / "pictures" / secrets.token_hex(8)
    folder.mkdir(parents=True)
    request = {
        "do": "draw",
        "base": path_of(at, settings.base),
        "parts": parts,
        "names": names,
        "schedules": schedules,
        "image": str(_start(at, settings.start)) if settings.start else None,
        "seed": settings.seed if settings.seed >= 0 else secrets.randbelow(2**32),
        "folder": str(folder),
        **settings.model_dump(
            include={"prompt", "negative", "count", "width", "height", "steps", "guidance", "sampler", "strength"}
        ),
    }
    return request, used


def require_in_use(at: At, style: Style) -> Version:
    """Return the version that a style means. Raises BadRequest where it was retired."""
    version = at.studio.library.version(style.ref)
    if version.stage == "retired":
        raise BadRequest(f"{version.ref} was retired", hint="choose another style, or ask an approver about it")
    return version


def _start(at: At, start: str) -> Path:
    """Return the picture to begin with: one of the library by its id, or an upload."""
    try:
        return Path(at.studio.library.picture(start).path)
    except LoraDiffusionError:
        return at.studio.upload(start, at.user)


def _kept(at: At, path: Path, settings: Mapping[str, Any], used: Mapping[str, float]) -> Drawn:
    picture = at.studio.library.add_picture(
        path, by=at.user.name, when=at.when, settings=settings, adapters=tuple(used.items())
    )
    return Drawn(event="picture", picture=picture)


def _jpeg(path: Path) -> str:
    out = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(out, format="JPEG", quality=88)
    return base64.b64encode(out.getvalue()).decode()


@action(role="creator", writes=False)
def warm(at: At) -> None:
    """Start the process that draws, so that the first picture need not wait for it."""
    at.studio.painter.warm()


@action(role="creator", writes=False)
def stop(at: At) -> int:
    """Stop everything that you are having drawn; returns how many drawings that were."""
    return at.studio.painter.stop(at.user.name)


@action(role="viewer", writes=False, same_as="library pictures")
def list_(
    at: At,
    *,
    text: Annotated[str, Field(max_length=200)] = "",
    mine: bool = False,
    starred: bool | None = None,
    before: Id | Literal[""] = "",
    limit: Annotated[int, Field(ge=1, le=200)] = 60,
) -> list[LibraryPicture]:
    """List pictures, newest first; each word of `text` stands in the prompt."""
    found: list[LibraryPicture] = []
    for by in at.studio.names_of(at.user) if mine else ("",):  # all under an earlier name are older
        left = limit - len(found)
        if left:
            found += at.studio.library.pictures(text=text, by=by, starred=starred, before=before, limit=left)
    return found


@action(role="viewer", writes=False)
def show(at: At, *, id: Id) -> LibraryPicture:
    """Show one picture with its settings."""
    return at.studio.library.picture(id)


@action(role="creator", writes=False, same_as="library star")
def star(at: At, *, id: Id, on: bool = True) -> LibraryPicture:
    """Mark a picture as a favourite, or take the mark away."""
    return at.studio.library.star(id, on, by=at.user.name, when=at.when)


@action(role="approver", writes=False, same_as="library picture")
def judge(
    at: At, *, id: Id, state: Literal["", "approved", "off_brand"], reason: Annotated[str, Field(max_length=2000)] = ""
) -> LibraryPicture:
    """Approve a picture for use, or say why it is off brand."""
    return at.studio.library.set_picture_state(id, state, by=at.user.name, when=at.when, reason=reason)


@action(role="creator", writes=False)
def reuse(at: At, *, upload: Uploaded = "", id: Id | Literal[""] = "") -> dict[str, Any]:
    """Return the settings inside a PNG that was made here or by another program, or of a picture of the library.

    An empty `start` says that it began with no other picture.
    """
    if id:
        picture = at.studio.library.picture(id)
        found = again(at, {**picture.settings, "adapters": dict(picture.adapters)})
    else:
        found = again(at, asdict(reusable_settings(at.studio.upload(upload, at.user))))
    return found if found["began"] else {**found, "start": ""}


@action(role="viewer", writes=False)
def samplers(at: At) -> list[dict[str, str]]:
    """List the ways to take the steps, with when to take each."""
    return [{"name": each.name, "title": each.title, "says": each.says} for each in known_samplers()]


@action(role="viewer", writes=False)
def triggers(at: At, *, prompt: Text, refs: Refs = ()) -> dict[str, list[str]]:
    """Return the triggers of these styles as `offered`, and as `held` those that stand between commas of a prompt."""
    offered = _triggers(at, refs)
    parts = _parts(prompt)
    return {"offered": offered, "held": [each for each in offered if each in parts]}


@action(role="viewer", writes=False)
def with_words(at: At, *, prompt: Text, words: Words, refs: Refs = ()) -> str:
    """Return a prompt that begins with these triggers, and holds no other trigger of these styles."""
    others = {*_triggers(at, refs), *words}
    return ", ".join([*words, *(part for part in _parts(prompt) if part not in others)])


@action(role="viewer", writes=False)
def with_styles(at: At, *, prompt: Text, before: Refs = (), refs: Refs = ()) -> str:
    """Return a prompt after a change of styles: with the triggers of new ones, without those of ones put away.

    Styles that were there `before` change nothing, so that a trigger that was taken out stays out.
    """
    old, new = _triggers(at, before), _triggers(at, refs)
    gone = set(old) - set(new)
    parts = [part for part in _parts(prompt) if part not in gone]
    added = [each for each in _triggers(at, [ref for ref in refs if ref not in before]) if each not in {*parts, *old}]
    if not added and len(parts) == len(_parts(prompt)):
        return prompt
    first = next((number for number, part in enumerate(parts) if part not in new), len(parts))
    return ", ".join([*parts[:first], *added, *parts[first:]])


def _triggers(at: At, refs: Sequence[str]) -> list[str]:
    """Return the triggers of styles in their order, each once; styles that are not in the library have none."""
    known = {each.ref: each.details.trigger for each in at.studio.library.versions(every=True)} if refs else {}
    return list(dict.fromkeys(known[ref] for ref in refs if known.get(ref)))


def _parts(prompt: str) -> list[str]:
    return [part.strip() for part in prompt.split(",") if part.strip()]


@action(role="viewer", writes=False)
def as_text(at: At, *, prompt: Text, styles: Styles = ()) -> str:
    """Return a prompt with its styles as other programs write them: <lora:name:0.8>."""
    return join_prompt(prompt, [(each.ref.partition("@")[0], each.weight, None) for each in styles])


@action(role="viewer", writes=False)
def from_text(at: At, *, text: Annotated[str, Field(max_length=6000)]) -> dict[str, Any]:
    """Take <lora:name:0.8> out of a prompt and return the styles of the library that it names."""
    return again(at, {"prompt": text})
