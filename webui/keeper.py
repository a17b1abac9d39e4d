"""`python -m webui.keeper HOME LANE`: run the jobs of one lane, one after the other, until there are none.

Detached from the browser's server, which may end or be killed meanwhile. A lock that the system frees when its holder
dies keeps a second keeper of the lane away; no clock is asked, so neither sleep nor a clock that is set makes two.
A keeper that is killed leaves its command running. The next one finds it by process number and time of birth and waits
for it; where it is gone too, a training is resumed from its newest snapshot and any other command is run anew.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from webui import processes
from webui.job_progress import error_in, log_path, output_path, run_folder, saved_step
from webui.job_table import ACTIVE, Job, JobState, Table
from webui.lane import LaneTable, Work

__all__ = ["Keeper", "main", "sentence"]

PROGRAM = (sys.executable, "-P", "-m", "lora_diffusion")

NICE = 5
"""Lower priority, so that pages stay quick while a training takes every core."""

POLL_SECONDS = 0.2
"""Between looks at what is asked of the job in work: one query, below 0.1 ms."""

GRACE_SECONDS = {"train": 600.0}
"""From SIGTERM to SIGKILL. A training ends its step and writes a snapshot: minutes for a large model on a CPU."""

USUAL_GRACE_SECONDS = 20.0

ASK_AGAIN_SECONDS = 10.0
"""A signal that came while a process was just being started may be lost."""

ENTER_SECONDS = 10.0
"""How long a keeper that was called waits for one that is just leaving."""

_ASKED: dict[str, JobState] = {"pausing": "paused", "stopping": "stopped"}


class Keeper:
    """The only one that runs jobs of a lane while it holds the lane's lock."""

    def __init__(
        self,
        home: Path,
        lane: str,
        *,
        program: Sequence[str] = PROGRAM,
        grace: Mapping[str, float] = GRACE_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        """`program` is what the commands are arguments of, `grace` seconds by the first word of a command."""
        self.home = Path(home)
        self.table = LaneTable(Table(self.home / "jobs.db"), lane)
        self._lock = FileLock(self.home / "jobs" / f"keeper-{lane}.lock")
        self._program = tuple(program)
        self._grace = grace
        self._poll = poll

    def run(self) -> bool:
        """Run every job of the lane and return True; False at once if another keeper does."""
        (self.home / "jobs").mkdir(parents=True, exist_ok=True)
        if not self._entered():
            return False
        try:
            while not self.table.leave():
                job = self.table.next()
                while job is not None and job.state in ACTIVE:
                    self._go_on(job)
                    job = self.table.table.get(job.id)
        finally:
            self._lock.release()
        return True

    def _entered(self) -> bool:
        until = time.monotonic() + ENTER_SECONDS
        while time.monotonic() < until:
            with suppress(Timeout):
                self._lock.acquire(timeout=self._poll)
                self.table.enter(os.getpid(), processes.born(os.getpid()))
                return True
            other = self.table.keeper()
            if other and processes.lives(*other):
                return False
        return False

    def _go_on(self, job: Job) -> None:
        """Take the job one piece further: launch its command, or wait for it and write down how it ended."""
        work = self.table.work(job.id)
        if work.pid is not None:
            self._wait(job, work.pid, work.born, None)
            self._settle(job, self.table.work(job.id), None)
        elif job.state in _ASKED:
            self.table.end(job, _ASKED[job.state], code=None)
        else:
            self._launch(job, work)

    def _launch(self, job: Job, before: Work) -> None:
        log, run = log_path(self.home, job), run_folder(self.home, job)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log_from = log.stat().st_size if log.exists() else 0
            begun = os.path.exists(run / "plan.toml")
            token = self.table.launch(job, log_from=log_from, ours=not begun)
            if not token:
                return
            resumes = before.launches > 0 and before.ours and begun
            process = self._start(job, token, _resumed(job.command, run) if resumes else job.command)
        except OSError as error:  # a full disk, no memory for a process, no right to write
            said = f"{' '.join(job.command[:1])} could not be started: {error}"
            self.table.end(job, "failed", code=None, error=said, hint="mend this and try the job again")
            return
        self._wait(job, process.pid, processes.born(process.pid), process)
        self._settle(job, self.table.work(job.id), process.returncode)

    def _start(self, job: Job, token: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        shim = (sys.executable, "-P", "-m", "webui.shim")
        about = (str(self.home), job.id, token, str(self._exit_file(job, token)), "--")
        with output_path(self.home, job).open("wb") as out, log_path(self.home, job).open("ab") as log:
            return subprocess.Popen(
                [*shim, *about, *self._program, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self.home,
                env={**processes.environment(), "LORA_DIFFUSION_HOME": str(self.home.absolute())},
                start_new_session=True,
            )

    def _exit_file(self, job: Job, token: str) -> Path:
        return self.home / "jobs" / job.id / f"exit-{token}"

    def _wait(self, job: Job, pid: int, born: str, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until nothing of the command runs any more, and hand on what is asked of it meanwhile."""
        grace = self._grace.get(job.command[0], USUAL_GRACE_SECONDS)
        asked = again = 0.0
        while processes.group_lives(pid, born):
            if self.table.state(job.id) in _ASKED:
                now = time.monotonic()
                asked = asked or now
                if now - asked > grace:
                    processes.signal_group(pid, signal.SIGKILL)
                elif now >= again:
                    processes.signal_group(pid, signal.SIGTERM)
                    again = now + ASK_AGAIN_SECONDS
            self._rest(process)
        if process:
            process.wait()

    def _rest(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None or process.returncode is not None:
            time.sleep(self._poll)
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._poll)

    def _settle(self, job: Job, work: Work, returned: int | None) -> None:
        """Write down how a command ended. `returned` is what its shim returned, where this keeper started it."""
        state = self.table.state(job.id)
        result = _read(output_path(self.home, job))
        code = self._exit_code(job, work, result, returned)
        was_stopped = result.get("status") == "stopped" and job.is_training
        without_keeper = returned is None and (code is None or was_stopped)  # with the whole machine, most likely
        if without_keeper and state == "running":
            self._begin_again(job)
        elif code is not None and not was_stopped and self._is_answer(job, code):
            self._after(job, result, code)
        elif state in _ASKED:
            self.table.end(job, _ASKED[state], code=code)
        elif was_stopped:
            self.table.end(job, "stopped", code=code, error="It was ended from outside; its work is saved.")
        else:
            said, hint = error_in(log_path(self.home, job), work.log_from)
            error = said or sentence(3 if code == 1 else code)  # Python's own 1 is no finding
            self.table.end(job, "failed", code=code, error=error, hint=hint)
        self._exit_file(job, work.token).unlink(missing_ok=True)

    def _exit_code(self, job: Job, work: Work, result: Mapping[str, Any], returned: int | None) -> int | None:
        with suppress(OSError, ValueError):
            return int(self._exit_file(job, work.token).read_text("utf-8"))
        if result:  # the shim was killed; the answer is the last thing that a command writes
            return 0
        return returned if returned is None or returned < 0 else 3

    def _is_answer(self, job: Job, code: int) -> bool:
        """Say whether the command came to an end of its own: 0, or 1 with what it found. Python leaves with 1 too."""
        return code == 0 or (code == 1 and output_path(self.home, job).stat().st_size > 0)

    def _after(self, job: Job, result: dict[str, Any], code: int) -> None:
        if code == 1 and job.at + 1 < len(job.commands):
            self.table.end(job, "failed", code=code, error=sentence(1), hint="mend what it found, and try again")
        else:
            self.table.next_command(job, result, code)

    def _begin_again(self, job: Job) -> None:
        """Queue a job again whose command and keeper are both gone."""
        if not self.table.again(job, saved_step(self.home, job)):
            self.table.end(
                job,
                "failed",
                code=None,
                error=f"{job.command[0]} was ended from outside again and again without getting further.",
                hint="memory may be short: close other programs or choose smaller settings, and try again",
            )


def sentence(code: int | None) -> str:
    """Return an exit code in words."""
    known = {
        0: "It is done.",
        1: "The check found something that stands in the way.",
        2: "The command was called in a wrong way; nothing was written.",
        3: "It failed; the log says more.",
        -signal.SIGKILL: "Memory ran out, or it was ended from outside.",
        -signal.SIGTERM: "It was ended from outside.",
        None: "It ended without a word.",
    }
    if code in known:
        return known[code]
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"It crashed ({signal.Signals(-code).name}); the log may say more."
    return f"It ended with code {code}; the log says more."


def _resumed(command: Sequence[str], run: Path) -> tuple[str, ...]:
    """Return the command that goes on with the run that a training has begun."""
    kept = [word for word in ("--finish", "--json") if word in command]
    return ("train", "--resume", str(run), *kept) if command[0] == "train" else tuple(command)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {"answer": found}


def main(arguments: Sequence[str]) -> int:
    """Keep a lane until it is empty."""
    home, lane = arguments
    if hasattr(os, "nice"):
        os.nice(NICE)
    Keeper(Path(home), lane).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
