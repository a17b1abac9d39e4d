"""Sets of pictures: what is in them, what the checks say, captions, rights."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from datasets_tools import (
    BucketRow,
    Change,
    Counts,
    DatasetError,
    Finding,
    OnlyFor,
    OutOfSpace,
    Report,
    Rights,
    apply_edits,
    describe_pictures,
    edit_history,
    edit_named,
    exclude_pictures,
    include_pictures,
    preview_edits,
    set_captions,
    set_rights,
    undo_edits,
    write_captions,
)
from datasets_tools import captioner as captioner_named
from webui.actions import At, act, action
from webui.datasets import PictureSet
from webui.errors import BadRequest
from webui.intake import Taken, Upload, take_in

__all__ = ["EditedCaption", "Health", "PictureRow", "SetRow", "SetView"]

Id = Annotated[str, Field(pattern=r"^([0-9a-f]{16}|demo:[a-z][a-z0-9_-]{0,40})$")]
File = Annotated[str, Field(min_length=1, max_length=400)]
Files = Annotated[list[File], Field(max_length=4000)]
Caption = Annotated[str, Field(max_length=8000)]
Short = Annotated[str, Field(max_length=1000)]
Resolution = Annotated[int, Field(ge=64, le=2048, multiple_of=64)]
Edits = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=8)]

_COVERS = 4
_COMMAS = ", \t\n，、"
_DEMO_RESOLUTION, _RESOLUTION = 128, 512


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """A set as a card shows it. `covers` are its first pictures; `score` is None until it was checked."""

    id: str
    name: str
    owner: str
    created: str
    read_only: bool
    pictures: int
    captioned: int
    covers: tuple[Path, ...]
    score: int | None


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """One picture. `crop` is what training sees of it: left, top, width, height as shares 0..1 of the picture.

    `size` is in pixels, `bucket` the size it is taught at; both None until it was checked, as is `crop`.
    """

    file: str
    path: Path
    caption: str
    excluded: bool
    rights: Rights
    rights_problem: str
    size: tuple[int, int] | None
    bucket: tuple[int, int] | None
    crop: tuple[float, float, float, float] | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the checks say of a set as a whole: 0-100 points, what costs them, and what would raise them most.

    `findings` concern the whole set; those about a picture are with it.
    """

    score: int
    blocked: bool
    images: int
    reasons: tuple[str, ...]
    changes: tuple[Change, ...]
    buckets: tuple[BucketRow, ...]
    counts: Counts
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class SetView:
    """A set with its pictures; `health` is None where it was not checked since it changed."""

    row: SetRow
    pictures: tuple[PictureRow, ...]
    resolution: int
    health: Health | None


@dataclass(frozen=True, kw_only=True)
class EditedCaption:
    """One caption before and after."""

    file: str
    before: str
    after: str


@action(role="viewer", writes=False)
def list_(at: At) -> list[SetRow]:
    """List the sets of pictures: the newest first, and then those that come with the studio."""
    return [_row(at, found) for found in at.studio.datasets.all()]


@action(role="creator")
def create(at: At, *, name: Annotated[str, Field(min_length=1, max_length=80)]) -> SetRow:
    """Make an empty set."""
    return _row(at, at.studio.datasets.create(name, owner=at.user.name, when=at.when))


@action(role="creator")
def copy_demo(at: At, *, style: Annotated[str, Field(max_length=40)]) -> SetRow:
    """Make a set of your own out of one that comes with the studio."""
    return _row(at, at.studio.datasets.copy_demo(style, owner=at.user.name, when=at.when))


@action(role="creator")
def remove(at: At, *, id: Id) -> None:
    """Take a set off the list; its files stay until the studio is cleaned up."""
    at.studio.datasets.remove(id, at.user)


@action(role="creator")
def add_pictures(
    at: At, *, id: Id, uploads: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=500)]
) -> Taken:
    """Put uploaded pictures, zips of pictures and captions (.txt) into a set; what is refused is named."""
    found = at.studio.datasets.writable(id)
    sent = [Upload(name=PurePosixPath(name).name, path=at.studio.upload(name, at.user)) for name in uploads]
    with at.studio.datasets.busy(id, "add") as told:
        return take_in(found.folder, sent, decoding=at.studio.datasets.decoding, when=at.when, on_progress=told)


@action(role="viewer", writes=False, same_as="check")
def show(at: At, *, id: Id, resolution: Resolution | None = None, trigger: Short = "", wait: bool = True) -> SetView:
    """Show a set: pictures, captions, crops, rights, findings, health. Without `wait` only what is known already.

    An empty set has no health.
    """
    found = at.studio.datasets.find(id)
    size = resolution or _resolution(at)
    checks, withdrawn = at.studio.checks, _withdrawn(at, found)
    if wait and any(not each.excluded for each in describe_pictures(found.folder)):
        report: Report | None = checks.report(found, resolution=size, trigger=trigger)
    else:
        report = checks.known(found, resolution=size, trigger=trigger)
    if report and withdrawn:
        report = report.with_findings(withdrawn)
    pictures = _pictures(found, report, withdrawn)
    return SetView(
        row=_row(at, found),
        pictures=pictures,
        resolution=size,
        health=_health(report, {each.file for each in pictures}) if report else None,
    )


@action(role="viewer", writes=False)
def progress(at: At, *, id: Id) -> dict[str, Any] | None:
    """Say what is being done with a set at this moment: "add" or "check", and how far it is; null for nothing."""
    doing = at.studio.datasets.doing(at.studio.datasets.find(id).id)
    return {"what": doing.what, "done": doing.done, "total": doing.total} if doing else None


@action(role="creator", same_as="caption replace")
def caption(at: At, *, id: Id, file: File, text: Caption) -> EditedCaption | None:
    """Write the caption of one picture."""
    with _changing(at, id) as folder:
        done = set_captions(folder, {file: text}, when=at.when)
    return next((_edited(one) for one in done.edited if one.file == file), None)


@action(role="creator", same_as="caption prepend|append|replace|remove|trigger|shuffle|dropout|normalise")
def edit_captions(
    at: At,
    *,
    id: Id,
    edits: Edits,
    files: Files | None = None,
    preview: bool = True,
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0,
) -> list[EditedCaption]:
    """Edit the captions of all pictures or of some; with `preview` only say what would change.

    An edit is {"do": "replace", "old": "cat", "new": "dog"}: prepend, append, replace, remove, trigger, shuffle,
    dropout or normalise, with the options that `lora-diffusion caption` has.
    """
    asked = [edit_named(str(each.get("do", "")), _options(each)) for each in edits]
    chosen = asked if files is None else [OnlyFor(edit=edit, files=frozenset(files)) for edit in asked]
    with _changing(at, id) as folder:
        if preview:
            return [_edited(one) for one in preview_edits(folder, chosen, seed=seed)]
        return [_edited(one) for one in apply_edits(folder, chosen, seed=seed, when=at.when).edited]


@action(role="creator", same_as="caption fill")
def suggest_captions(
    at: At, *, id: Id, captioner: Literal["filename", "folder", "palette"] = "filename", overwrite: bool = False
) -> list[EditedCaption]:
    """Write captions for the pictures that have none, from their names, their folder or their colours."""
    with _changing(at, id) as folder:
        done = write_captions(folder, captioner_named(captioner), overwrite=overwrite, when=at.when)
    return [_edited(one) for one in done.edited]


@action(role="creator", same_as="caption exclude")
def exclude(at: At, *, id: Id, files: Files) -> None:
    """Leave pictures out of training without deleting them."""
    with _changing(at, id) as folder:
        exclude_pictures(folder, files, when=at.when)


@action(role="creator", same_as="caption include")
def include(at: At, *, id: Id, files: Files) -> None:
    """Take pictures in again that were left out."""
    with _changing(at, id) as folder:
        include_pictures(folder, files, when=at.when)


@action(role="creator", same_as="rights set")
def rights(
    at: At,
    *,
    id: Id,
    files: Files | None = None,
    owner: Short | None = None,
    licence: Short | None = None,
    source: Short | None = None,
    consent: Short | None = None,
    expires: Short | None = None,
) -> Mapping[str, Rights]:
    """State who allows the use of some pictures or of all; null leaves a field as it is, "" takes it back."""
    stated = {"owner": owner, "licence": licence, "source": source, "consent": consent, "expires": expires}
    with _changing(at, id) as folder:
        return set_rights(folder, files=files, **stated, when=at.when).rights


@action(role="creator", same_as="caption undo")
def undo(at: At, *, id: Id) -> dict[str, Any]:
    """Take back the last change of captions, rights or what is left out."""
    with _changing(at, id) as folder:
        entry = undo_edits(folder)
    return {"number": entry.number, "what": entry.what, "when": entry.when, "files": entry.files}


@action(role="viewer", writes=False, same_as="caption history")
def history(at: At, *, id: Id) -> list[dict[str, Any]]:
    """List the changes of captions, rights and what is left out, the first one first."""
    found = at.studio.datasets.find(id)
    return [
        {"number": each.number, "what": each.what, "when": each.when, "files": len(each.files), "undone": each.undone}
        for each in ([] if found.read_only else edit_history(found.folder))
    ]


_SOUGHT = {"replace": "old", "remove": "text", "trigger": "trigger"}
"""Edit -> the option without which it has nothing to do; spaces may be replaced."""


def _options(edit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an edit, without the commas on the side of the text where one is put anyway."""
    options = {key: edit[key] for key in edit if key != "do"}
    text, joined = options.get("text"), "joiner" not in options
    if isinstance(text, str) and joined and edit.get("do") in ("prepend", "append"):
        options["text"] = text.rstrip(_COMMAS) if edit["do"] == "prepend" else text.lstrip(_COMMAS)
        if not options["text"].strip(_COMMAS):
            raise BadRequest("there is no text to put into the captions", hint="write the text first")
    sought = options.get(_SOUGHT.get(str(edit.get("do")), ""))
    if isinstance(sought, str) and not (sought if edit["do"] == "replace" else sought.strip()):
        raise BadRequest("the text is empty", hint="write the text first")
    return options


@contextmanager
def _changing(at: At, id: str) -> Iterator[Path]:
    """Yield the folder of a set that may be changed; refusals name the set and no path of the server."""
    found = at.studio.datasets.writable(id)

    def named(text: str) -> str:
        return text.replace(f"{found.folder}/", "").replace(str(found.folder), found.name)

    try:
        yield found.folder
    except OutOfSpace:
        raise
    except DatasetError as error:
        raise BadRequest(named(str(error)), hint=named(error.hint)) from error


def _resolution(at: At) -> int:
    """Return the size in pixels that the current base model is taught at, as far as it is known."""
    base = act(at.studio, at.user, "bases.current")
    found = base.get("resolution") if isinstance(base, Mapping) else None
    return int(found) if found else _DEMO_RESOLUTION if base.get("base") == "demo" else _RESOLUTION


def _withdrawn(at: At, found: PictureSet) -> tuple[Finding, ...]:
    return at.studio.checks.withdrawn(found, at.studio.library.withdrawn())


def _row(at: At, found: PictureSet) -> SetRow:
    pictures = describe_pictures(found.folder)
    report = at.studio.checks.known(found, resolution=_resolution(at))
    withdrawn = _withdrawn(at, found) if report else ()
    if report and withdrawn:
        report = report.with_findings(withdrawn)
    return SetRow(
        id=found.id,
        name=found.name,
        owner=found.owner,
        created=found.created,
        read_only=found.read_only,
        pictures=len(pictures),
        captioned=sum(bool(each.caption) for each in pictures),
        covers=tuple(found.folder / each.file for each in pictures[:_COVERS]),
        score=report.score if report else None,
    )


def _health(report: Report, files: Collection[str]) -> Health:
    return Health(
        score=report.score,
        blocked=report.blocked,
        images=report.images,
        reasons=report.reasons,
        changes=report.changes,
        buckets=report.buckets,
        counts=report.counts,
        findings=tuple(one for one in report.findings if one.file not in files),
    )


def _pictures(found: PictureSet, report: Report | None, withdrawn: Sequence[Finding]) -> tuple[PictureRow, ...]:
    sights = {sight.record.file: sight for sight in report.sights} if report else {}
    findings: dict[str, list[Finding]] = {}
    for one in report.findings if report else withdrawn:
        findings.setdefault(one.file, []).append(one)
    today = date.today().isoformat()
    rows = []
    for each in describe_pictures(found.folder):
        sight = sights.get(each.file)
        crop = sight.crop if sight else None
        rows.append(
            PictureRow(
                file=each.file,
                path=found.folder / each.file,
                caption=each.caption,
                excluded=each.excluded,
                rights=each.rights,
                rights_problem=_problem(each.rights, today),
                size=(sight.record.width, sight.record.height) if sight else None,
                bucket=(sight.bucket.width, sight.bucket.height) if sight else None,
                crop=_shares(crop.resized, crop.box) if crop else None,
                findings=tuple(findings.get(each.file, ())),
            )
        )
    return tuple(rows)


def _problem(rights: Rights, today: str) -> str:
    """Return "missing", "expired" or "", as the checks judge rights."""
    if not (rights.owner or rights.licence or rights.consent):
        return "missing"
    return "expired" if rights.expires and rights.expires < today else ""


def _shares(resized: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    across, along = resized
    left, top, right, bottom = box
    return left / across, top / along, (right - left) / across, (bottom - top) / along


def _edited(one: Any) -> EditedCaption:
    return EditedCaption(file=one.file, before=one.before, after=one.after)
