"""What the keeper of a lane reads and changes in the table: whose turn it is, what was launched, how it ended.

Every launch has a token. The process that is launched takes the token before it does anything (`take`); a keeper that
comes later replaces it first where nobody did. So a command never runs twice at once, wherever a keeper was killed.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from webui.job_table import ACTIVE, Job, JobState, Table, utc_now

__all__ = ["LaneTable", "Work", "take"]

TRIES = 3
"""So often in a row a command may be ended from outside without getting further: a fault of its own kills it again."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The command in work of a job; `token` is empty where none is. See the table `work`."""

    token: str
    pid: int | None
    born: str
    log_from: int
    launches: int
    ours: bool


class LaneTable:
    """One lane of the table, for its keeper alone."""

    def __init__(self, table: Table, lane: str, *, clock: Callable[[], str] = utc_now) -> None:
        self.table = table
        self.lane = lane
        self._clock = clock

    def enter(self, pid: int, born: str) -> None:
        """Say who keeps the lane; the caller holds its lock."""
        with self.table.change() as db:
            db.execute("REPLACE INTO keepers (lane, pid, born) VALUES (?, ?, ?)", (self.lane, pid, born))

    def keeper(self) -> tuple[int, str] | None:
        """Return who said to keep the lane."""
        row = self.table.connection.execute("SELECT pid, born FROM keepers WHERE lane = ?", (self.lane,)).fetchone()
        return (row["pid"], row["born"]) if row else None

    def leave(self) -> bool:
        """Say that nobody keeps the lane, unless work came meanwhile: then return False.

        Who submits after this finds no keeper and starts one.
        """
        with self.table.change() as db:
            if _next(db, self.lane) is not None:
                return False
            db.execute("DELETE FROM keepers WHERE lane = ?", (self.lane,))
            return True

    def next(self) -> Job | None:
        """Return the job that a keeper before left in work, else begin the first in the queue."""
        with self.table.change() as db:
            id = _next(db, self.lane)
            if id is None:
                return None
            job = self.table.get(id)
            if job.state == "queued":
                db.execute(
                    "UPDATE jobs SET state = 'running', started = ?, error = '', hint = '', exit_code = NULL"
                    " WHERE id = ?",
                    (job.started or self._clock(), id),
                )
                _no_launch(db, id)
            return self.table.get(id)

    def state(self, id: str) -> JobState:
        found: JobState = self.table.connection.execute("SELECT state FROM jobs WHERE id = ?", (id,)).fetchone()[0]
        return found

    def work(self, id: str) -> Work:
        return _work(self.table.connection, id)

    def launch(self, job: Job, *, log_from: int, ours: bool) -> str:
        """Return the token of a new launch of the command; "" if there is none to launch: look at the job again.

        That is so where a process took the launch before, or where a stop was asked for. `ours` counts at the first
        launch only: the run directory of the job held no run before it.
        """
        token = secrets.token_hex(8)
        with self.table.change() as db:
            work = _work(db, job.id)
            if self.state(job.id) != "running" or work.pid is not None:
                return ""
            db.execute(
                "UPDATE work SET token = ?, log_from = ?, launches = launches + 1, ours = ? WHERE job = ?",
                (token, log_from, work.ours if work.launches else ours, job.id),
            )
        return token

    def next_command(self, job: Job, result: dict[str, Any], code: int) -> None:
        """Keep what a command said and go on with the next one, which may be none: then the job is done."""
        after = job.at + 1
        last = after == len(job.commands)
        results = json.dumps([*job.results[: job.at], result])
        with self.table.change() as db:
            asked = self.state(job.id)
            then: JobState = "done" if last else _ASKED.get(asked, "running")
            ended = self._clock() if then in ("done", "stopped") else ""
            db.execute(
                "UPDATE jobs SET state = ?, ended = ?, at = ?, results = ?, exit_code = ? WHERE id = ?",
                (then, ended, job.at if last else after, results, code, job.id),
            )
            db.execute("UPDATE work SET launches = 0, ours = 0, tries = 0, reached = 0 WHERE job = ?", (job.id,))
            _no_launch(db, job.id)

    def end(self, job: Job, state: JobState, *, code: int | None, error: str = "", hint: str = "") -> None:
        """Take a job out of the lane: paused, stopped or failed."""
        with self.table.change() as db:
            ended = "" if state == "paused" else self._clock()
            db.execute(
                "UPDATE jobs SET state = ?, ended = ?, exit_code = ?, error = ?, hint = ? WHERE id = ?",
                (state, ended, code, error, hint, job.id),
            )
            _no_launch(db, job.id)

    def again(self, job: Job, reached: int) -> bool:
        """Put a job whose command ended without a word back into its place; False if it got no further too often."""
        with self.table.change() as db:
            row = db.execute("SELECT tries, reached FROM work WHERE job = ?", (job.id,)).fetchone()
            tries = 1 if reached > row["reached"] else row["tries"] + 1
            if tries > TRIES:
                return False
            db.execute("UPDATE work SET tries = ?, reached = ? WHERE job = ?", (tries, reached, job.id))
            db.execute("UPDATE jobs SET state = 'queued' WHERE id = ?", (job.id,))
            _no_launch(db, job.id)
            return True


_ASKED: dict[JobState, JobState] = {"pausing": "paused", "stopping": "stopped"}


def take(table: Table, id: str, token: str, *, pid: int, born: str) -> bool:
    """Take a launch for this process; False if another keeper launched the command anew."""
    with table.change() as db:
        taken = db.execute(
            "UPDATE work SET pid = ?, born = ? WHERE job = ? AND token = ? AND pid IS NULL", (pid, born, id, token)
        )
        return taken.rowcount == 1


def _next(db: Connection, lane: str) -> str | None:
    row = db.execute(
        f"SELECT id FROM jobs WHERE lane = ? AND (state = 'queued' OR state IN {ACTIVE})"
        " ORDER BY state = 'queued', position LIMIT 1",
        (lane,),
    ).fetchone()
    return row["id"] if row else None


def _work(db: Connection, id: str) -> Work:
    row = db.execute("SELECT token, pid, born, log_from, launches, ours FROM work WHERE job = ?", (id,)).fetchone()
    return Work(**{**dict(row), "ours": bool(row["ours"])})


def _no_launch(db: Connection, id: str) -> None:
    db.execute("UPDATE work SET token = '', pid = NULL, born = '' WHERE job = ?", (id,))
