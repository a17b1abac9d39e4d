"""The queue of long work: what is to be done, by whom, in which order, and how far it is.

Jobs are rows of HOME/jobs.db. They run in two lanes, one training at a time beside one job on files at a time. Each
lane has a keeper (`webui.keeper`), a process of its own that goes on when the browser's server ends or is killed.
What a job leaves is in HOME/jobs/ID: out-N.json and log-N.txt of its N-th command.
"""

import json
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, get_args

from webui import job_progress
from webui.errors import TooMany
from webui.job_progress import LossCurve, Progress
from webui.job_table import ACTIVE, ENDED, Job, JobError, JobState, Lane, Table, utc_now
from webui.processes import environment, lives

__all__ = ["Job", "JobError", "JobState", "Jobs", "Lane", "LossCurve", "Progress"]

KEEPER = (sys.executable, "-P", "-m", "webui.keeper")
"""-P: the folders datasets/, runs/ and others in HOME must not be taken for Python packages of these names."""

MAX_WAITING = 100
"""Jobs of one person; a merged checkpoint takes 2 to 7 GB, so that a script in a loop would fill the disk."""

_SHOWN = "CASE WHEN state IN ('running', 'pausing', 'stopping') THEN 0 WHEN state = 'queued' THEN 1 ELSE 2 END"


class Jobs:
    """The queue in one file. Safe to use from many threads and processes at once."""

    def __init__(self, path: Path, *, clock: Callable[[], str] = utc_now, keeper: Sequence[str] = KEEPER) -> None:
        """Open or make the queue; `keeper` is the command of a keeper, to which HOME and the lane are added."""
        self.table = Table(path)
        self.home = self.table.path.absolute().parent
        self._clock = clock
        self._keeper = tuple(keeper)

    def close(self) -> None:
        """Close what this thread opened; keepers go on."""
        self.table.close()

    def submit(
        self,
        *,
        kind: str,
        title: str,
        owner: str,
        commands: Sequence[Sequence[str]],
        folder: Path | str,
        lane: Lane | None = None,
        subject: str = "",
    ) -> Job:
        """Put a job at the end of its lane; `wake` has it begun.

        Each command is an argument list of `lora-diffusion` with --json; paths in it are absolute or relative to HOME.
        Of a training `folder` is the run directory. Without a lane, what trains goes to "train", the rest to "files".
        """
        lists = [[str(word) for word in command] for command in commands]
        if not lists or not all(lists):
            raise JobError("a job needs at least one command", hint="give argument lists of lora-diffusion")
        lane = lane or ("train" if any(command[0] == "train" for command in lists) else "files")
        if lane not in get_args(Lane):
            raise JobError(f"there is no lane {lane}", hint=f"choose one of {', '.join(get_args(Lane))}")
        id = secrets.token_hex(8)
        with self.table.change() as db:
            _require_few(db, owner)
            db.execute(
                "INSERT INTO jobs (id, kind, title, owner, lane, folder, subject, state, position, created, commands)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                (
                    *(id, kind, title, owner, lane, str(folder), subject),
                    *(_last_position(db) + 1, self._clock(), json.dumps(lists)),
                ),
            )
            db.execute("INSERT INTO work (job) VALUES (?)", (id,))
        return self.get(id)

    def get(self, id: str) -> Job:
        """Return a job with its results. Raises NotFound where there is none."""
        return self.table.get(id)

    def list(self, *, states: Collection[JobState] = (), owner: str = "", limit: int = 1000) -> list[Job]:
        """Return jobs without their results: those in work, then the queue in order, then the ended, newest first."""
        where = ["1"]
        values: list[object] = []
        if states:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if owner:
            where.append("owner = ?")
            values.append(owner)
        order = f"{_SHOWN}, CASE WHEN state = 'queued' THEN position END, ended DESC, created DESC, position DESC"
        return self.table.select(" AND ".join(where), tuple(values), order=order, limit=limit)

    def hand_over(self, owner: str, heir: str) -> None:
        """Give all jobs of one owner to another."""
        with self.table.change() as db:
            db.execute("UPDATE jobs SET owner = ? WHERE owner = ?", (heir, owner))

    def move(self, id: str, *, before: str = "", direction: Literal["", "up", "down"] = "") -> Job:
        """Change when a queued job has its turn: before another one of its lane, or one place up or down."""
        if bool(before) == bool(direction):
            raise JobError("say before which job, or up or down", hint="exactly one of them")
        if before == id:
            raise JobError("a job cannot come before itself", hint="choose another job")
        with self._changing(id) as (db, job):
            rows = db.execute(
                "SELECT id FROM jobs WHERE state = 'queued' AND lane = ? ORDER BY position", (job.lane,)
            ).fetchall()
            order = [row["id"] for row in rows]
            if id not in order or (before and before not in order):
                raise JobError("only queued jobs of one lane change places", hint="look at the list of jobs")
            place = order.index(id)
            order.remove(id)
            wanted = order.index(before) if before else max(0, place + (1 if direction == "down" else -1))
            order.insert(wanted, id)
            positions = _positions(db, order)
            db.executemany("UPDATE jobs SET position = ? WHERE id = ?", zip(positions, order, strict=True))
        return self.get(id)

    def pause(self, id: str) -> Job:
        """Hold a queued job back, or have a training save its work and wait for `resume`."""
        with self._changing(id) as (db, job):
            if job.state == "queued":
                _set_state(db, id, "paused")
            elif job.state == "running" and job.is_training:
                _set_state(db, id, "pausing")
            elif job.state not in ("pausing", "paused"):
                raise JobError(f"{job.title} is {job.state} and cannot be paused", hint=_instead(job))
        return self.get(id)

    def stop(self, id: str) -> Job:
        """End a job before it is done; a training saves its work first and can be resumed."""
        with self._changing(id) as (db, job):
            if job.state in ("queued", "paused"):
                _set_state(db, id, "stopped", ended=self._clock())
            elif job.state in ("running", "pausing"):
                _set_state(db, id, "stopping")
            elif job.state not in ("stopping", "stopped"):
                raise JobError(f"{job.title} is {job.state} already", hint="there is nothing to stop")
        return self.get(id)

    def resume(self, id: str) -> Job:
        """Queue a paused job, or a training that was stopped or failed, to go on from what it saved."""
        with self._changing(id) as (db, job):
            if job.state == "paused" or (job.state in ("stopped", "failed") and job.is_training):
                _queue_again(db, id)
            elif job.state not in ("queued", "running"):
                raise JobError(f"{job.title} is {job.state} and cannot be resumed", hint=_instead(job))
        return self.get(id)

    def retry(self, id: str) -> Job:
        """Queue a job that failed or was stopped again, from the command at which it ended.

        A training that has begun its run goes on from its newest snapshot, as with `resume`.
        """
        with self._changing(id) as (db, job):
            if job.state not in ("failed", "stopped"):
                raise JobError(f"{job.title} is {job.state} and cannot be tried again", hint=_instead(job))
            _queue_again(db, id)
        return self.get(id)

    def remove(self, id: str) -> None:
        """Forget a job that ended, with its log; what it made stays. Raises JobError for one that may still run."""
        with self._changing(id) as (db, job):
            if job.state not in ENDED:
                raise JobError(f"{job.title} is {job.state} and cannot be removed", hint="stop it first")
            db.execute("DELETE FROM jobs WHERE id = ?", (id,))
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def prune(self, *, keep: int = 1000) -> int:
        """Forget the oldest ended jobs beyond `keep` and return how many."""
        old = self.table.select(f"state IN {ENDED}", order="ended DESC, created DESC, position DESC", limit=-1)[keep:]
        for job in old:
            self.remove(job.id)
        return len(old)

    def folder(self, id: str) -> Path:
        """Return where a job's log and answers lie."""
        return self.home / "jobs" / id

    def log(self, job: Job, *, limit: int = 64_000) -> str:
        """Return the end of the log of the command in work, or of the last one."""
        return job_progress.tail(job_progress.log_path(self.home, job), limit)

    def progress(self, job: Job) -> Progress:
        """Return how far a job is, from what it leaves on the disk."""
        return job_progress.progress(self.home, job)

    def loss_curve(self, job: Job, points: int = 500) -> LossCurve:
        """Return the loss of a training over its steps, in at most so many points."""
        return job_progress.loss_curve(self.home, job, points)

    def previews(self, job: Job) -> Sequence[tuple[int, Path]]:
        """Return the pictures that a training drew, with their steps, in their order."""
        return job_progress.previews(self.home, job)

    def wake(self) -> None:
        """Make sure that every lane with work has a living keeper. Costs two queries where there is nothing to do."""
        db = self.table.connection
        waiting = db.execute(f"SELECT DISTINCT lane FROM jobs WHERE state = 'queued' OR state IN {ACTIVE}").fetchall()
        for (lane,) in waiting:
            keeper = db.execute("SELECT pid, born FROM keepers WHERE lane = ?", (lane,)).fetchone()
            if keeper is None or not lives(keeper["pid"], keeper["born"]):
                self._start_keeper(lane)

    def _start_keeper(self, lane: str) -> None:
        log = self.home / "jobs" / f"keeper-{lane}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said:
            process = subprocess.Popen(
                [*self._keeper, str(self.home), lane],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.home,
                env=environment(),
                start_new_session=True,
            )
        # Somebody has to take its exit code, or it stays in the process table as long as this server lives.
        threading.Thread(target=process.wait, name=f"keeper-{lane}", daemon=True).start()

    @contextmanager
    def _changing(self, id: str) -> Iterator[tuple[Connection, Job]]:
        with self.table.change() as db:
            yield db, self.get(id)


def _require_few(db: Connection, owner: str) -> None:
    """Raise TooMany where somebody has as many jobs waiting as anybody may."""
    waiting = "SELECT count(*) FROM jobs WHERE owner = ? AND state IN ('queued', 'paused')"
    if db.execute(waiting, (owner,)).fetchone()[0] >= MAX_WAITING:
        raise TooMany(
            f"{MAX_WAITING} jobs of yours are waiting", hint="wait for them, or stop those you can do without"
        )


def _last_position(db: Connection) -> int:
    return int(db.execute("SELECT coalesce(max(position), 0) FROM jobs").fetchone()[0])


def _positions(db: Connection, order: Sequence[str]) -> list[int]:
    marks = ", ".join("?" * len(order))
    return sorted(row[0] for row in db.execute(f"SELECT position FROM jobs WHERE id IN ({marks})", tuple(order)))


def _set_state(db: Connection, id: str, state: JobState, ended: str = "") -> None:
    db.execute("UPDATE jobs SET state = ?, ended = ? WHERE id = ?", (state, ended, id))


def _queue_again(db: Connection, id: str) -> None:
    db.execute(
        "UPDATE jobs SET state = 'queued', position = ?, ended = '', error = '', hint = '', exit_code = NULL"
        " WHERE id = ?",
        (_last_position(db) + 1, id),
    )
    db.execute("UPDATE work SET tries = 0 WHERE job = ?", (id,))


def _instead(job: Job) -> str:
    """Return what can be done with a job in its state."""
    return {
        "queued": "it waits for its turn; move, pause or stop it",
        "running": "stop it, or wait until it is done",
        "pausing": "wait until it is paused; its work is being saved",
        "paused": "resume or stop it",
        "stopping": "wait until it is stopped; its work is being saved",
        "stopped": "try it again",
        "failed": "try it again",
        "done": "submit it anew to have it done once more",
    }[job.state]
