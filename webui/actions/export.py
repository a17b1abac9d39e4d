"""Exports: a style as a file for other programs, for other people, or for the archive.

Who may export what is the rule of `webui.release`.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lora_diffusion import Version
from webui.actions import At, action
from webui.actions.jobs import Id, JobRow, row_of
from webui.actions.library import Ref, Words
from webui.commands import run_cli
from webui.errors import BadRequest, NotFound
from webui.jobs import Job
from webui.release import file_name, may_release, require_release
from webui.users import allows

__all__ = ["TARGETS", "Outcome", "Privacy", "Target", "Withheld"]

KIND = "export"
MOST_SAMPLES = 6
"""On a card: two rows of three; at most 100 kB each."""

Target = Literal["comfyui", "diffusers", "archive"]
Privacy = Literal["public", "team", "private"]
Weight = Annotated[float, Field(ge=-2, le=2)] | Literal[""]

TARGETS: dict[Target, str] = {"comfyui": "kohya", "diffusers": "diffusers", "archive": ""}
"""Where a file goes -> the dialect in which it is written; an archive keeps the one that the file has."""


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """What a privacy profile leaves out: a key, what stands there (shortened), and why."""

    key: str
    value: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an export. The files are None until it is done.

    `loss` is the share of the style's effect that rounding took, in total and by layer; `withheld` the keys of the
    metadata that the privacy profile left out.
    """

    job: JobRow
    file: Path | None = None
    card: Path | None = None
    sha256: str = ""
    loss: float | None = None
    layers: dict[str, float | None] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()


@action(role="viewer", writes=False)
def allowed(at: At, *, ref: Ref, target: Target = "comfyui", privacy: Privacy = "team") -> bool:
    """Say whether you may export a version."""
    version = at.studio.library.version(ref)
    return may_release(at.user, version, archived=_archived(target, privacy))


@action(role="creator", writes=False, same_as="export --preview")
def preview(at: At, *, ref: Ref, privacy: Privacy = "team") -> list[Withheld]:
    """List what a privacy profile would leave out of a file, before anything is written."""
    path = at.studio.library.path(ref)
    found = run_cli(["export", str(path), str(at.studio.home / "tmp" / "none"), "--privacy", privacy, "--preview"])
    return [Withheld(**each) for each in found["withheld"]]


@action(role="creator", same_as="export, library pack")
def write(
    at: At,
    *,
    ref: Ref,
    target: Target = "comfyui",
    precision: Literal["fp16", "bf16", "fp32"] = "fp16",
    privacy: Privacy = "team",
    card: bool = True,
    licence: Words | None = None,
    weight_low: Weight | None = None,
    weight_high: Weight | None = None,
) -> JobRow:
    """Export a version as a job; approved ones are for creators and above, others for trainers and above.

    The card states `licence` and the recommended weights; left out, those of the version; empty, none. An archive has
    its own card and keeps the file as it is, so precision does not matter there.
    """
    version = at.studio.library.version(ref)
    require_release(at.user, version, archived=_archived(target, privacy))
    folder = at.studio.home / "exports" / secrets.token_hex(8)
    folder.mkdir(parents=True)
    if target == "archive":
        out = folder / file_name(version, ".zip")
        words = ["library", "pack", version.ref, str(out), "--home", str(at.studio.home)]
    else:
        out = folder / file_name(version, ".safetensors")
        words = ["export", str(at.studio.library.path(version.ref)), str(out), "--dialect", TARGETS[target]]
        words += ["--precision", precision, f"--name={version.name}"]
        words += _card(at, version, folder, licence, weight_low, weight_high) if card else []
    job = at.studio.jobs.submit(
        kind=KIND,
        title=out.name,
        owner=at.user.name,
        commands=[[*words, "--privacy", privacy, "--overwrite", "--json"]],
        folder=folder,
        subject=version.ref,
    )
    at.studio.jobs.wake()
    return row_of(at, job)


@action(role="creator", writes=False)
def result(at: At, *, id: Id) -> Outcome:
    """Say what came of an export of yours: file, card, hash, what it lost, what was left out."""
    job = at.studio.jobs.get(id)
    if job.kind != KIND or (job.owner != at.user.name and not allows(at.user, "admin")):
        raise NotFound("there is no such export of yours", hint="export the style again")
    at.studio.jobs.wake()
    return _outcome(at, job)


@action(role="creator", writes=False)
def list_(at: At, *, limit: Annotated[int, Field(ge=1, le=200)] = 20) -> list[JobRow]:
    """List your exports: those in work first, then the newest."""
    found = at.studio.jobs.list(owner=at.user.name)
    return [row_of(at, job) for job in found if job.kind == KIND][:limit]


def _archived(target: Target, privacy: Privacy) -> bool:
    return target == "archive" and privacy == "private"


def _card(
    at: At, version: Version, folder: Path, licence: str | None, low: Weight | None, high: Weight | None
) -> list[str]:
    """Return the words that ask for a card."""
    details = version.details
    asked = (low, high) != (None, None)
    low, high = _stated(low, details.weight_low), _stated(high, details.weight_high)
    if asked and (low is None) != (high is None):
        raise BadRequest("the recommended strength lacks one end", hint="give both, or neither")
    if low is not None and high is not None and low > high:
        raise BadRequest("the recommended strength begins above its end", hint="give the lower one first")
    said = details.licence if licence is None else licence
    words = ["--card", str(folder / file_name(version, ".html")), *([f"--licence={said}"] if said else [])]
    if low is not None and high is not None:
        words += ["--weights", repr(low), repr(high)]
    for sample in at.studio.library.samples(version.ref)[:MOST_SAMPLES]:
        words += ["--sample", str(sample.path)]
    return words


def _stated(asked: Weight | None, own: float | None) -> float | None:
    """Return the end of a range that was asked for, or the version's own; an empty one is none."""
    return own if asked is None else None if isinstance(asked, str) else asked


def _outcome(at: At, job: Job) -> Outcome:
    row = row_of(at, job)
    if job.state != "done":
        return Outcome(job=row)
    made: dict[str, Any] = job.results[0]
    report = made.get("report", {})
    cards = [Path(each) for each in made.get("cards", [])]
    return Outcome(
        job=row,
        file=Path(made["path"]),
        card=cards[0] if cards else None,
        sha256=made["sha256"],
        loss=report.get("total"),
        layers=report.get("layers", {}),
        withheld=tuple(made.get("withheld", ())),
    )
