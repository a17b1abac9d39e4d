"""Jobs as rows of one SQLite file that the browser's server and the keepers of the lanes share.

WAL, so that readers never wait for a writer; every change is one BEGIN IMMEDIATE, so that two writers never act on the
same old state; one connection per thread. Changes are a few per job: each is forced to the disk (synchronous=FULL).
"""

import json
import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from webui.connections import Connections
from webui.errors import NotFound, StudioError

__all__ = ["ACTIVE", "ENDED", "Job", "JobError", "JobState", "Lane", "Table", "utc_now"]

JobState = Literal["queued", "running", "pausing", "paused", "stopping", "stopped", "done", "failed"]
Lane = Literal["train", "files"]

ACTIVE: tuple[JobState, ...] = ("running", "pausing", "stopping")
"""A keeper works on it, or has to see to it after the keeper before died."""

ENDED: tuple[JobState, ...] = ("done", "failed", "stopped")

BUSY_SECONDS = 30.0
"""How long a writer waits for another; a change takes a few milliseconds, a disk under load seconds."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, title TEXT NOT NULL, owner TEXT NOT NULL, lane TEXT NOT NULL,
            folder TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL, position INTEGER NOT NULL,
            created TEXT NOT NULL, started TEXT NOT NULL DEFAULT '', ended TEXT NOT NULL DEFAULT '',
            at INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
            exit_code INTEGER, commands TEXT NOT NULL, results TEXT NOT NULL DEFAULT '[]')""",
        "CREATE INDEX jobs_by_lane ON jobs (lane, state, position)",
        "CREATE INDEX jobs_by_owner ON jobs (owner, created)",
        # What a keeper has to know of the command in work: `token` names one launch, `pid` and `born` the process that
        # took it, `log_from` is where its part of the log begins; `ours` says that the run in the folder is this job's;
        # `tries` counts launches in a row that ended without a word and without getting beyond step `reached`.
        """CREATE TABLE work (
            job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, token TEXT NOT NULL DEFAULT '',
            pid INTEGER, born TEXT NOT NULL DEFAULT '', log_from INTEGER NOT NULL DEFAULT 0,
            launches INTEGER NOT NULL DEFAULT 0, ours INTEGER NOT NULL DEFAULT 0,
            tries INTEGER NOT NULL DEFAULT 0, reached INTEGER NOT NULL DEFAULT 0)""",
        "CREATE TABLE keepers (lane TEXT PRIMARY KEY, pid INTEGER NOT NULL, born TEXT NOT NULL)",
    ),
)
"""Number n brings a file from version n to n + 1; never change one, add another."""


class JobError(StudioError):
    """What cannot be done with a job in its state; `status` is that of HTTP."""

    status = 409


@dataclass(frozen=True, kw_only=True)
class Job:
    """One line of the queue. Times are ISO-8601 in UTC, empty where they did not come yet.

    `commands` are argument lists of `lora-diffusion`, run one after the other; `at` is the one in work. `folder` is
    where they write: of a training the run directory. `results` holds what each command that is done said on stdout,
    `result` the last of them; lists leave both empty. `exit_code` is that of the last command, negative the signal.
    """

    id: str
    kind: str
    title: str
    owner: str
    lane: str
    commands: tuple[tuple[str, ...], ...]
    folder: str
    subject: str
    state: JobState
    position: int
    created: str
    started: str = ""
    ended: str = ""
    at: int = 0
    results: tuple[dict[str, Any], ...] = field(default=())
    error: str = ""
    hint: str = ""
    exit_code: int | None = None

    @property
    def result(self) -> dict[str, Any]:
        return self.results[-1] if self.results else {}

    @property
    def command(self) -> tuple[str, ...]:
        """The command in work, or the last one."""
        return self.commands[min(self.at, len(self.commands) - 1)]

    @property
    def is_training(self) -> bool:
        """Whether the command in work can be stopped and continued without losing its work."""
        return self.command[0] == "train"


_COLUMNS = (
    "id, kind, title, owner, lane, folder, subject, state, position, created, started, ended, at, error, hint, "
    "exit_code, commands"
)


class Table:
    """The file, opened once per thread."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._connections = Connections(self._connected)
        self._migrate()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        return self._connections.mine()

    def close(self) -> None:
        """Close the connection of this thread."""
        self._connections.close()

    def change(self) -> AbstractContextManager[sqlite3.Connection]:
        """Do everything in the block at once or not at all, with no other writer in between."""
        return self._connections.writing()

    def get(self, id: str) -> Job:
        """Return a job with its results. Raises NotFound where there is none."""
        row = self.connection.execute(f"SELECT {_COLUMNS}, results FROM jobs WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no job {id}", hint="it may have been removed; look at the list of jobs")
        return _job(row)

    def select(self, where: str = "1", values: tuple[object, ...] = (), *, order: str, limit: int = -1) -> list[Job]:
        """Return jobs without their results, which may be megabytes each."""
        rows = self.connection.execute(
            f"SELECT {_COLUMNS}, '[]' AS results FROM jobs WHERE {where} ORDER BY {order} LIMIT ?", (*values, limit)
        )
        return [_job(row) for row in rows]

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _migrate(self) -> None:
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Changing to WAL does not wait for others as writing does, so the first ones to open a new file take turns.
        with FileLock(f"{self.path}.lock"):
            if self.connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                self.connection.execute("PRAGMA journal_mode = WAL")
            with self.change() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > len(MIGRATIONS):
                    raise JobError(
                        f"{self.path} was written by a later version of lora-diffusion", hint="update lora-diffusion"
                    )
                for statement in (each for migration in MIGRATIONS[version:] for each in migration):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def utc_now() -> str:
    """Return the time in UTC, to the millisecond so that what is submitted at once keeps its order."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    commands = tuple(tuple(command) for command in json.loads(values.pop("commands")))
    return Job(commands=commands, results=tuple(json.loads(values.pop("results"))), **values)
