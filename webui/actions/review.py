"""Approval: who waits for it, what there is to judge by, and the decision with what was checked.

A decision is one event of the library with who, when, and as its reason the ticks and the comment, such as
"checked: rights, samples, trigger, copies, licence. The red is right now."
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from datasets_tools import Described, Rights, describe_pictures
from lora_diffusion import Event, Sample, Version
from webui.actions import At, action
from webui.actions.bases import path_of
from webui.actions.jobs import JobRow, row_of
from webui.actions.library import Reason, Ref, pictures_of
from webui.errors import BadRequest

__all__ = [
    "CHECKS",
    "FORMAT",
    "KIND",
    "SHOWN",
    "Check",
    "Dossier",
    "Figure",
    "Figures",
    "PictureRights",
    "Said",
    "figure_of",
]

KIND = "evaluate"
FORMAT = 1
"""Of evaluation.json: the one whose keys are known here."""

SHOWN = ("style_match", "prompt_fit", "memorisation", "held_out_gain")

Check = Literal["rights", "samples", "trigger", "copies", "licence"]
CHECKS: tuple[Check, ...] = get_args(Check)
"""What an approver has to have looked at."""

_CHECKED = re.compile(r"checked: ([a-z, ]+)\.(?: (.*))?", re.DOTALL)
_MOVES = {"in_review to approved": "approved", "in_review to draft": "sent_back", "draft to in_review": "handed_in"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a measurement: `tone` is good, warns, bad or plain; `missing` says why there is no `value`."""

    name: str
    value: float | None
    unit: str
    tone: str
    verdict: str
    missing: str
    by_weight: Mapping[str, float | None]
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a measurement found. `best` is the recommended weight, None with the `reason` where there is none."""

    at: str
    best: float | None
    reason: str
    scores: tuple[Figure, ...]
    notes: tuple[str, ...]
    prompts: int
    page: Path

    def score(self, name: str) -> Figure | None:
        return next((each for each in self.scores if each.name == name), None)

    @property
    def copied(self) -> bool:
        """Whether training pictures were found copied at the weight that was looked at."""
        found = self.score("memorisation")
        return found is not None and found.tone == "bad"


@dataclass(frozen=True, kw_only=True)
class PictureRights:
    """Of the training pictures: how many there were, how many can be looked at here, and what their rights lack."""

    pictures: int
    known: int
    missing: int
    expired: int


@dataclass(frozen=True, kw_only=True)
class Said:
    """One thing that was said or decided. `what` is comment, handed_in, approved, sent_back, or a move as it is."""

    at: str
    by: str
    what: str
    text: str
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """All there is to judge a version by. `references` are its training pictures as (file name, file)."""

    version: Version
    samples: tuple[Sample, ...]
    references: tuple[tuple[str, Path], ...]
    rights: PictureRights
    figures: Figures | None
    measuring: JobRow | None
    said: tuple[Said, ...]


@action(role="viewer", writes=False, same_as="library list")
def queue(at: At) -> list[Version]:
    """List every version that waits for approval, also one whose name means another version until then."""
    return list(at.studio.library.versions(stage="in_review", every=True))


@action(role="viewer", writes=False, same_as="library show")
def show(at: At, *, ref: Ref) -> Dossier:
    """Show all that a version is judged by."""
    version = at.studio.library.version(ref)
    lineage = at.studio.library.lineage(version.ref)
    folder = pictures_of(at, lineage.plan)
    taught = _taught(folder)
    names = [name for _, name in lineage.manifest]
    return Dossier(
        version=version,
        samples=tuple(at.studio.library.samples(version.ref)),
        references=tuple((name, folder / name) for name in names if folder and name in taught),
        rights=_rights(names, taught),
        figures=figures(at, ref=version.ref),
        measuring=_measuring(at, version),
        said=tuple(log(at, ref=version.ref)),
    )


@action(role="viewer", writes=False, same_as="library history")
def log(at: At, *, ref: Ref) -> list[Said]:
    """List what was said and decided about a version, oldest first."""
    library = at.studio.library
    version = library.version(ref)
    talk = [Said(at=each.at, by=each.by, what="comment", text=each.text) for each in library.comments(version.ref)]
    moves = [_move(each) for each in library.history(version.ref, limit=500) if " to " in each.what]
    return sorted([*talk, *reversed(moves)], key=lambda each: each.at)


@action(role="viewer", writes=False)
def figures(at: At, *, ref: Ref) -> Figures | None:
    """Return what the last measurement of these weights found, under whatever name; nothing before the first."""
    version = at.studio.library.version(ref)
    path = _folder(at, version) / "evaluation.json"
    try:
        found = json.loads(path.read_bytes())
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (FileNotFoundError, json.JSONDecodeError):  # of another writer or damaged: measuring anew replaces it
        return None
    if found.get("format") != FORMAT or found["adapter"]["fingerprint"] != version.fingerprint:
        return None
    return Figures(
        at=changed.isoformat(timespec="seconds"),
        best=found["best_weight"],
        reason=found["best_weight_reason"],
        scores=tuple(figure_of(name, found["scores"][name]) for name in SHOWN if name in found["scores"]),
        notes=tuple(found["notes"]),
        prompts=len(found["prompts"]),
        page=path.with_suffix(".html"),
    )


@action(role="trainer", same_as="evaluate")
def measure(at: At, *, ref: Ref, prompts: Annotated[int, Field(ge=2, le=64)] = 12) -> JobRow:
    """Measure a version by what it draws with the current base model, as a job; one at a time for each version."""
    version = at.studio.library.version(ref)
    running = _measuring(at, version)
    if running and running.state not in ("failed", "stopped"):
        return running
    folder = pictures_of(at, at.studio.library.lineage(version.ref).plan)
    held_out = folder.parent / "held-out" if folder and folder.name == "taught" else None
    words = ["evaluate", str(at.studio.library.path(version.ref)), "--base", path_of(at, "")]
    words += ["--data", str(folder)] if folder and folder.is_dir() else []
    words += ["--held-out", str(held_out)] if held_out and held_out.is_dir() else []
    out = _folder(at, version)
    job = at.studio.jobs.submit(
        kind=KIND,
        title=version.ref,
        owner=at.user.name,
        commands=[[*words, "--prompts", str(prompts), "--out", str(out), "--overwrite", "--json"]],
        folder=out,
        subject=version.ref,
    )
    at.studio.jobs.wake()
    return row_of(at, job)


@action(role="approver", writes=False, same_as="library promote")
def approve(
    at: At, *, ref: Ref, checks: Annotated[tuple[Check, ...], Field(max_length=10)], comment: Reason = ""
) -> Version:
    """Approve a version that is in review, after every check; its name means it from then on.

    Where the figures or the rights speak against it, the comment has to say why it is approved all the same.
    """
    found = show(at, ref=ref)
    _require_in_review(found.version)
    if lacking := [each for each in CHECKS if each not in checks]:
        raise BadRequest(f"not checked yet: {', '.join(lacking)}", hint="look at it, then tick it")
    _require_facts(found)
    if (against := _against(found)) and not comment.strip():
        raise BadRequest(f"{found.version.ref}: {against}", hint="say in the comment why you approve it all the same")
    ticked = ", ".join(each for each in CHECKS if each in checks)
    reason = f"checked: {ticked}. {comment.strip()}".strip()
    return at.studio.library.promote(found.version.ref, "approved", by=at.user.name, when=at.when, reason=reason)


@action(role="approver", writes=False, same_as="library promote")
def send_back(at: At, *, ref: Ref, comment: Reason) -> Version:
    """Make a draft of a version again, with a sentence for its makers."""
    version = at.studio.library.version(ref)
    _require_in_review(version)
    if not comment.strip():
        raise BadRequest(f"{version.ref} cannot go back without a word", hint="say in a sentence what should change")
    return at.studio.library.promote(version.ref, "draft", by=at.user.name, when=at.when, reason=comment.strip())


def _folder(at: At, version: Version) -> Path:
    return at.studio.home / "evaluations" / version.fingerprint


def _measuring(at: At, version: Version) -> JobRow | None:
    """Return the last measurement of a version, unless it is done."""
    jobs = [each for each in at.studio.jobs.list() if each.kind == KIND and each.subject == version.ref]
    last = max(jobs, key=lambda each: each.created, default=None)
    return row_of(at, last) if last and last.state != "done" else None


def _taught(folder: Path | None) -> Mapping[str, Described]:
    if folder is None or not folder.is_dir():
        return {}
    return {each.file: each for each in describe_pictures(folder)}


def _rights(names: Sequence[str], taught: Mapping[str, Described]) -> PictureRights:
    today = date.today().isoformat()
    rights = [taught[name].rights for name in names if name in taught]
    return PictureRights(
        pictures=len(names),
        known=len(rights),
        missing=sum(not _stated(each) for each in rights),
        expired=sum(bool(each.expires) and each.expires < today for each in rights),
    )


def _stated(rights: Rights) -> bool:
    return bool(rights.owner or rights.licence or rights.consent)


def _move(event: Event) -> Said:
    found = _CHECKED.fullmatch(event.reason) if event.what == "in_review to approved" else None
    return Said(
        at=event.at,
        by=event.by,
        what=_MOVES.get(event.what, event.what),
        text=(found[2] or "") if found else event.reason,
        checks=tuple(each for each in found[1].split(", ") if each in CHECKS) if found else (),
    )


def figure_of(name: str, score: Mapping[str, Any]) -> Figure:
    """Return a score of evaluation.json."""
    return Figure(
        name=name,
        value=score["value"],
        unit=score["unit"],
        tone=score["tone"],
        verdict=score["verdict"],
        missing=score["missing"],
        by_weight=score["by_weight"],
        details=score["details"],
    )


def _require_in_review(version: Version) -> None:
    if version.stage != "in_review":
        said = f"{version.ref} is {version.stage}, not in review"
        raise BadRequest(said, hint="only what is in review can be decided on")


def _require_facts(found: Dossier) -> None:
    """Two of the checks can be seen from here: what is not there, nobody has looked at."""
    if not found.samples:
        raise BadRequest(f"{found.version.ref} has no samples to look at", hint="have them drawn first")
    if not found.version.details.licence.strip():
        raise BadRequest(f"{found.version.ref} states no licence", hint="write it on its page in the library")


def _against(found: Dossier) -> str:
    reasons = []
    if found.rights.missing or found.rights.expired:
        reasons.append(f"rights are missing for {found.rights.missing} pictures, expired for {found.rights.expired}")
    if found.figures and found.figures.copied:
        reasons.append("the measurement found copied training pictures")
    return " and ".join(reasons)
