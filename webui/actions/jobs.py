"""The queue: what runs, what waits, and what can be done about it. One sees everybody's, and changes one's own."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from webui.actions import At, action
from webui.errors import NotAllowed
from webui.jobs import Job, JobState
from webui.users import allows

__all__ = ["Id", "JobRow", "row_of"]

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A job as a page or a script shows it. `done` of `total` are steps or pictures; 0 of 0 is not known yet."""

    id: str
    kind: str
    title: str
    owner: str
    subject: str
    state: str
    created: str
    started: str
    ended: str
    done: int
    total: int
    text: str
    seconds_left: float | None
    error: str
    hint: str


def row_of(at: At, job: Job) -> JobRow:
    progress = at.studio.jobs.progress(job)
    return JobRow(
        **{name: getattr(job, name) for name in _SAME},
        done=progress.done,
        total=progress.total,
        text=progress.text,
        seconds_left=progress.seconds_left,
    )


_SAME = ("id", "kind", "title", "owner", "subject", "state", "created", "started", "ended", "error", "hint")


@action(role="viewer", writes=False)
def list_(
    at: At, *, active: bool = False, mine: bool = False, limit: Annotated[int, Field(ge=1, le=1000)] = 100
) -> list[JobRow]:
    """List jobs: those in work, then the queue in order, then the ended. `active` leaves the ended out."""
    states: tuple[JobState, ...] = ("running", "pausing", "stopping", "queued", "paused") if active else ()
    found = at.studio.jobs.list(states=states, owner=at.user.name if mine else "", limit=limit)
    return [row_of(at, job) for job in found]


@action(role="viewer", writes=False)
def show(at: At, *, id: Id) -> JobRow:
    """Show one job."""
    return row_of(at, at.studio.jobs.get(id))


@action(role="creator")
def pause(at: At, *, id: Id) -> JobRow:
    """Hold a job back; a training saves its work first."""
    return _change(at, id, "pause")


@action(role="creator")
def stop(at: At, *, id: Id) -> JobRow:
    """End a job before it is done; a training saves its work first."""
    return _change(at, id, "stop")


@action(role="creator", same_as="train")
def resume(at: At, *, id: Id) -> JobRow:
    """Go on with a job that was paused, or a training that was stopped or failed."""
    return _change(at, id, "resume")


@action(role="creator")
def retry(at: At, *, id: Id) -> JobRow:
    """Try a job that failed again."""
    return _change(at, id, "retry")


@action(role="creator")
def move(at: At, *, id: Id, direction: Literal["up", "down"]) -> JobRow:
    """Change the order of the queue."""
    _own(at, id)
    return row_of(at, at.studio.jobs.move(id, direction=direction))


@action(role="creator")
def remove(at: At, *, id: Id) -> None:
    """Forget a job that ended; what it made stays."""
    _own(at, id)
    at.studio.jobs.remove(id)


def _change(at: At, id: str, what: str) -> JobRow:
    _own(at, id)
    job = getattr(at.studio.jobs, what)(id)
    at.studio.jobs.wake()
    return row_of(at, job)


def _own(at: At, id: str) -> None:
    job = at.studio.jobs.get(id)
    if job.owner != at.user.name and not allows(at.user, "admin"):
        raise NotAllowed(f"{job.title} belongs to {job.owner}", hint="ask them or an admin")
