"""Teaching a style: a plan that suits, what it needs, the start, and how it goes."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from datasets_tools import Finding, replacing
from lora_diffusion import TrainPlan, require_name, suggest_plan, to_toml
from webui.actions import At, act, action
from webui.actions.bases import path_of
from webui.actions.datasets import Id as SetId
from webui.actions.jobs import Id, JobRow, row_of
from webui.checks import WITHDRAWN
from webui.errors import BadRequest, NotAllowed, NotFound
from webui.freezing import ENOUGH, freeze, held_out_of
from webui.jobs import Job, JobState, LossCurve
from webui.plans import HELD_OUT, OWN, placed, read_plan, resolved
from webui.probing import Estimate, checked, known, measured
from webui.users import allows

__all__ = [
    "Missing",
    "Preview",
    "Suggestion",
    "Summary",
    "Training",
    "Verdict",
    "may_change",
    "own_training",
    "training",
]

Quality = Literal["quick", "balanced", "best"]
PlanText = Annotated[str, Field(min_length=1, max_length=40_000)]
Name = Annotated[str, Field(max_length=64)]
Trigger = Annotated[str, Field(max_length=100)]
Text = Annotated[str, Field(max_length=2000)]

KIND = "train"
POINTS = 300
"""Of a loss curve: one for every third pixel of a wide page."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A plan as TOML in the studio's names, and what it comes to."""

    plan: str
    steps: int
    resolution: int
    pictures: int
    held_out: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check of a plan found; `blocked` says that it would fail."""

    blocked: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A plan in facts. `looks` are those at each picture, `version` is what the name's next one will be.

    `held_out` of the pictures are put aside to see whether the style is learnt or copied; `needs` may not be known.
    """

    set: str
    pictures: int
    held_out: int
    base: str
    trigger: str
    version: int
    steps: int
    looks: int
    resolution: int
    needs: Estimate


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Pictures whose rights are `missing` or have `expired`, of so many that would be taught.

    `withdrawn` are those that may no longer be used at all, with the reason; nobody can make an exception.
    """

    pictures: int
    missing: tuple[str, ...]
    expired: tuple[str, ...]
    withdrawn: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What was drawn after so many steps."""

    step: int
    pictures: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a training goes. `ahead` are the jobs before it in the queue; `style` is its version in the library.

    `loss` is that of the last step, `mine` whether the user may change it.
    """

    job: JobRow
    ahead: int
    loss: float | None
    curve: LossCurve
    previews: tuple[Preview, ...]
    style: str
    mine: bool


@action(role="viewer", writes=False, same_as="plan")
def suggest(at: At, *, set: SetId, quality: Quality = "balanced", name: Name = "", trigger: Trigger = "") -> Suggestion:
    """Suggest a plan for a set of pictures on the current base model, for a style of a name that it may have."""
    if name.strip():
        require_name(name.strip())
    found = at.studio.datasets.find(set)
    base = act(at.studio, at.user, "bases.current")
    plan = suggest_plan(
        data=found.source, base=base["base"], quality=quality, family=base["family"], trigger=trigger.strip()
    )
    taught = _taught(at, set)
    held_out = len(taught) >= ENOUGH
    captioned = any(each.caption for each in taught)
    captions = {} if captioned or not trigger.strip() else {"captions": "optional"}  # the trigger alone stands for them
    validation = {"folder": HELD_OUT, "every": plan.previews.every} if held_out else {}
    plan = plan.model_copy(
        update={
            "data": plan.data.model_copy(update={"folder": set, "rights": OWN["data.rights"], **captions}),
            "run": plan.run.model_copy(update={"out": OWN["run.out"]}),
            "validation": plan.validation.model_copy(update=validation),
        }
    )
    return Suggestion(
        plan=to_toml(plan),
        steps=plan.run.steps,
        resolution=plan.data.resolution or int(base["resolution"]),
        pictures=len(taught),
        held_out=held_out,
    )


@action(role="viewer", writes=False)
def rights(at: At, *, set: SetId) -> Missing:
    """Say for which pictures of a set it is not known who allows their use."""
    taught = _taught(at, set)
    return Missing(
        pictures=len(taught),
        missing=tuple(each.file for each in taught if each.rights_problem == "missing"),
        expired=tuple(each.file for each in taught if each.rights_problem == "expired"),
        withdrawn=_withdrawn(at, set),
    )


@action(role="viewer", writes=False)
def summary(at: At, *, plan: PlanText, name: Name = "") -> Summary:
    """Say in plain facts what a training by this plan comes to."""
    read = read_plan(plan)
    found = at.studio.datasets.find(read.data.folder)
    pictures = [each.file for each in _taught(at, found.id)]
    aside = len(held_out_of(pictures)) if read.validation.folder == HELD_OUT else 0
    base = act(at.studio, at.user, "bases.current")
    same = [each.number for each in at.studio.library.versions(name=name.strip(), every=True)] if name.strip() else []
    return Summary(
        set=found.name,
        pictures=len(pictures),
        held_out=aside,
        base=read.base.path,
        trigger=read.data.trigger,
        version=max(same, default=0) + 1,
        steps=read.run.steps,
        looks=round(read.run.steps * read.run.batch_size / max(1, len(pictures) - aside)),
        resolution=read.data.resolution or int(base["resolution"]),
        needs=known(at.studio.home, _resolved(at, read, rights=False)),
    )


@action(role="trainer", writes=False, same_as="check")
def check(at: At, *, plan: PlanText, override: bool = False) -> Verdict:
    """Find what would fail or spoil a training by this plan, without training a step.

    With `override` the rights of the pictures are not asked.
    """
    read = read_plan(plan)
    whole = _resolved(at, read, rights=not override)
    found = checked(at.studio.home, whole)
    sets = [at.studio.datasets.find(each) for each in _sets(read)]
    named = {place: each.name for each in sets for place in (str(each.folder), each.source)}
    names = {whole.base.path: read.base.path, **named, str(at.studio.home): "the studio"}
    findings = tuple(Finding(**_named(each, names)) for each in found["findings"])
    withdrawn = tuple(one for set in _sets(read) for one in _withdrawn(at, set))
    return Verdict(blocked=found["blocked"] or bool(withdrawn), findings=withdrawn + findings)


@action(role="trainer", writes=False, same_as="check")
def estimate(at: At, *, plan: PlanText) -> Estimate:
    """Measure what a plan takes by training it for a moment: seconds and bytes. What was measured before is kept."""
    return measured(at.studio.home, _resolved(at, read_plan(plan), rights=False))


@action(role="trainer", same_as="train")
def start(at: At, *, plan: PlanText, name: Name, notes: Text = "", override: Text = "") -> JobRow:
    """Teach a style: train by a plan and put the result into the library under a name.

    Where rights are missing an admin may go on with the reason as `override`, which is recorded.
    """
    name = require_name(name.strip())
    read = read_plan(plan)
    _require_not_withdrawn(at, read)
    _require_rights(at, read.data.folder, override.strip())
    _require_enough(at, read)
    whole = _resolved(at, read, rights=not override.strip())
    run = at.studio.home / "runs" / secrets.token_hex(8)
    taught, held_out = freeze(
        at.studio.datasets.find(read.data.folder).folder,
        run.with_suffix(".pictures"),
        hold_out=read.validation.folder == HELD_OUT,
        when=at.when,
    )
    whole = placed(whole, run=run, pictures=taught, held_out=held_out, name=name, rights=not override.strip())
    written = run.with_suffix(".toml")
    with replacing(written) as aside:
        aside.write_text(to_toml(whole), encoding="utf-8")
    commands = [["train", str(written), "--json"], _adding(at, run, name, read.data.trigger, notes.strip())]
    return _submitted(at, title=name, commands=commands, run=run, subject=read.data.folder)


@action(role="trainer", same_as="train")
def keep(at: At, *, id: Id) -> JobRow:
    """Stop a training and put what it has learnt so far into the library."""
    job = own_training(at, id)
    if job.state == "done" or at.studio.jobs.progress(job).loss is None:
        raise BadRequest(f"there is nothing to keep of {job.title} yet", hint="let it train for some steps")
    if job.state not in ("stopped", "failed"):
        at.studio.jobs.stop(id)
    run = at.studio.home / job.folder
    commands = [["train", "--resume", str(run), "--finish", "--json"], list(job.commands[-1])]
    kept = _submitted(at, title=job.title, commands=commands, run=run, subject=job.subject)
    states: tuple[JobState, ...] = ("queued",)
    waiting = [each for each in at.studio.jobs.list(states=states) if each.lane == job.lane]
    if waiting and waiting[0].id != kept.id and kept.id in {each.id for each in waiting}:
        at.studio.jobs.move(kept.id, before=waiting[0].id)  # it takes a moment; trainings take hours
    return kept


@action(role="viewer", writes=False)
def list_(at: At, *, mine: bool = False, limit: Annotated[int, Field(ge=1, le=200)] = 50) -> list[JobRow]:
    """List trainings: those in work, then the queue, then the ended ones."""
    found = at.studio.jobs.list(owner=at.user.name if mine else "")
    return [row_of(at, job) for job in found if job.kind == KIND][:limit]


@action(role="viewer", writes=False)
def watch(at: At, *, id: Id) -> Training:
    """Show how a training goes: steps, time left, loss, pictures drawn on the way, its place in the queue."""
    at.studio.jobs.wake()
    job = training(at, id)
    jobs = at.studio.jobs
    drawn: dict[int, list[Path]] = {}
    for step, path in jobs.previews(job):
        drawn.setdefault(step, []).append(path)
    return Training(
        job=row_of(at, job),
        ahead=_ahead(at, job),
        loss=jobs.progress(job).loss,
        curve=jobs.loss_curve(job, POINTS),
        previews=tuple(Preview(step=step, pictures=tuple(paths)) for step, paths in sorted(drawn.items())),
        style=str(job.result.get("ref", "")) if job.state == "done" else "",
        mine=may_change(at, job),
    )


def _taught(at: At, id: str) -> Sequence[Any]:
    return [each for each in act(at.studio, at.user, "datasets.show", id=id, wait=False).pictures if not each.excluded]


def _sets(plan: TrainPlan) -> Sequence[str]:
    """Return every set of pictures that a plan names, each once."""
    named = (plan.data.folder, plan.data.regularisation, plan.validation.folder)
    return tuple(dict.fromkeys(each for each in named if each and each != HELD_OUT))


def _withdrawn(at: At, id: str) -> tuple[Finding, ...]:
    return tuple(one for each in _taught(at, id) for one in each.findings if one.code == WITHDRAWN)


def _require_not_withdrawn(at: At, plan: TrainPlan) -> None:
    for id in _sets(plan):
        found = _withdrawn(at, id)
        if found:
            raise BadRequest(
                f"pictures of the set may no longer be used: {len(found)}; {found[0].file} is {found[0].reason}",
                hint="leave them out on the page of the set",
            )


def _require_rights(at: At, id: str, override: str) -> None:
    found = act(at.studio, at.user, "train.rights", set=id)
    lacking = len(found.missing) + len(found.expired)
    if not lacking:
        return
    if not override:
        raise BadRequest(
            f"of {lacking} of {found.pictures} pictures it is not known who allows their use",
            hint="state their rights on the page of the set",
        )
    if not allows(at.user, "admin"):
        raise NotAllowed(
            "only an admin may train with pictures without rights", hint="state the rights, or ask an admin"
        )


def _named(finding: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a finding that calls places as the studio does; where they lie stays on the server."""
    named = dict(finding)
    for path, name in names.items():
        for key in ("file", "reason", "remedy"):
            named[key] = named[key].replace(path, name)
    return named


def _require_enough(at: At, plan: TrainPlan) -> None:
    pictures = len(_taught(at, plan.data.folder))
    if plan.validation.folder == HELD_OUT and pictures < ENOUGH:
        raise BadRequest(
            f"validation.folder: {pictures} pictures are too few to put some aside",
            hint=f"add some until there are {ENOUGH}, or leave it empty",
        )


def _resolved(at: At, plan: TrainPlan, *, rights: bool) -> TrainPlan:
    whole = resolved(plan, base=lambda name: path_of(at, name), sets=at.studio.datasets)
    data = whole.data.model_copy(update={"rights": "require" if rights else "optional"})
    return whole.model_copy(update={"data": data})


def _adding(at: At, run: Path, name: str, trigger: str, notes: str) -> list[str]:
    """Return the command that puts the result of a run into the library."""
    words = ["library", "add", str(run / "adapter.safetensors"), f"--name={name}", f"--run={run}"]
    said = {"trigger": trigger, "notes": notes, "owner": at.user.name, "by": at.user.name}
    return [*words, *(f"--{key}={value}" for key, value in said.items() if value), f"--home={at.studio.home}", "--json"]


def _submitted(at: At, *, title: str, commands: Sequence[Sequence[str]], run: Path, subject: str) -> JobRow:
    job = at.studio.jobs.submit(
        kind=KIND, title=title, owner=at.user.name, commands=commands, folder=run, lane="train", subject=subject
    )
    at.studio.jobs.wake()
    return row_of(at, job)


def training(at: At, id: str) -> Job:
    """Return a training. Raises NotFound where there is none, or it is another kind of job."""
    job = at.studio.jobs.get(id)
    if job.kind != KIND:
        raise NotFound(f"{job.title} is no training", hint="look at it on the page Activity")
    return job


def own_training(at: At, id: str) -> Job:
    """Return a training that the user may change. Raises NotAllowed for that of somebody else."""
    job = training(at, id)
    if not may_change(at, job):
        raise NotAllowed(f"{job.title} belongs to {job.owner}", hint="ask them or an admin")
    return job


def may_change(at: At, job: Job) -> bool:
    """Say whether a user may change a training: their own, and an admin any."""
    return allows(at.user, "creator") and (job.owner == at.user.name or allows(at.user, "admin"))


def _ahead(at: At, job: Job) -> int:
    if job.state != "queued":
        return 0
    order = at.studio.jobs.list(states=("running", "pausing", "stopping", "queued"))
    return [each.id for each in order if each.lane == job.lane].index(job.id)
