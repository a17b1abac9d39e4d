"""Which step of a training: the adapters that it kept on its way, compared, and another one for the library."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lora_diffusion import kept_adapters
from webui.actions import At, action
from webui.actions.jobs import Id, JobRow, row_of
from webui.actions.review import FORMAT, SHOWN, Figure, figure_of
from webui.actions.review import KIND as MEASURING
from webui.actions.train import may_change, own_training, training
from webui.commands import run_cli
from webui.errors import BadRequest, NotFound
from webui.jobs import Job

__all__ = ["Step", "Steps"]

Number = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was found of the adapter after so many steps; `best` is the weight to use it at, None where none will do."""

    number: int
    best: float | None
    figures: tuple[Figure, ...]
    validation_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a training kept. `kept` are steps whose adapter is not the result; `compared` is empty before that was done.

    `best` is the step that is recommended, None where there is none; `mine` whether the user may have them compared.
    """

    kept: tuple[int, ...]
    compared: tuple[Step, ...]
    best: int | None
    measuring: JobRow | None
    page: Path | None
    mine: bool


@action(role="viewer", writes=False)
def show(at: At, *, id: Id) -> Steps:
    """Show which steps of a training can be compared, and what was found of them."""
    job = training(at, id)
    done = job.state == "done"
    found = _found(_folder(at, job)) if done else {}
    page = _folder(at, job) / "evaluation.html"
    return Steps(
        kept=tuple(_kept(at, job)) if done else (),
        compared=tuple(_step(each) for each in found.get("candidates", ())),
        best=found.get("best_step"),
        measuring=_measuring(at, job),
        page=page if found and page.is_file() else None,
        mine=may_change(at, job),
    )


@action(role="trainer", same_as="evaluate")
def compare(at: At, *, id: Id, prompts: Annotated[int, Field(ge=2, le=64)] = 12) -> JobRow:
    """Have every adapter that a training kept judged by what it draws, as a job; one at a time for each training."""
    job = own_training(at, id)
    if not show(at, id=id).kept:
        raise BadRequest(f"{job.title} kept no other steps", hint="set run.candidates before a training")
    running = _measuring(at, job)
    if running and running.state not in ("failed", "stopped"):
        return running
    out = _folder(at, job)
    words = ["evaluate", str(at.studio.home / job.folder), "--prompts", str(prompts)]
    begun = at.studio.jobs.submit(
        kind=MEASURING,
        title=job.title,
        owner=at.user.name,
        commands=[[*words, "--out", str(out), "--overwrite", "--json"]],
        folder=out,
        subject=_subject(job),
    )
    at.studio.jobs.wake()
    return row_of(at, begun)


@action(role="trainer", same_as="library add")
def take(at: At, *, id: Id, step: Number) -> str:
    """Put the adapter of an earlier step into the library, as the next version of the style; return its name."""
    job = own_training(at, id)
    file = _kept(at, job).get(step)
    if job.state != "done" or file is None:
        raise NotFound(f"{job.title} kept no adapter of step {step}", hint="choose one of the steps that are shown")
    result = str(at.studio.home / job.folder / "adapter.safetensors")
    words = [str(file) if word == result else word for word in job.commands[-1] if word != "--json"]
    added = [word for word in words if not word.startswith("--by=")]
    return str(run_cli([*added, f"--by={at.user.name}"])["ref"])


def _kept(at: At, job: Job) -> dict[int, Path]:
    return kept_adapters(at.studio.home / job.folder)


def _folder(at: At, job: Job) -> Path:
    return at.studio.home / "evaluations" / Path(job.folder).name


def _subject(job: Job) -> str:
    return f"steps of {Path(job.folder).name}"


def _measuring(at: At, job: Job) -> JobRow | None:
    """Return the last comparison of a training, unless it is done."""
    jobs = [each for each in at.studio.jobs.list() if each.kind == MEASURING and each.subject == _subject(job)]
    last = max(jobs, key=lambda each: each.created, default=None)
    return row_of(at, last) if last and last.state != "done" else None


def _found(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "evaluation.json").read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if found.get("format") == FORMAT else {}


def _step(found: dict[str, Any]) -> Step:
    return Step(
        number=found["step"],
        best=found["best_weight"],
        figures=tuple(figure_of(name, found["scores"][name]) for name in SHOWN if name in found["scores"]),
        validation_loss=found["validation_loss"],
    )
