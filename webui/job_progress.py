"""How far a job is, read from what it leaves on the disk: its log, and of a training the run directory.

Files may be long: of a log and of a run's metrics the last lines are read, of a curve as much as its points need.
"""

import json
import mmap
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.job_table import ENDED, Job

__all__ = [
    "LossCurve",
    "Progress",
    "error_in",
    "last_error",
    "log_path",
    "loss_curve",
    "output_path",
    "previews",
    "progress",
    "run_folder",
    "saved_step",
    "tail",
]

TAIL = 64_000
"""Bytes of the end of a file that are read: 400 steps of a run, all that a command says of an error."""

ROWS = 8
"""Steps that are averaged for one point of a long curve: enough to be calm, few enough to be read in milliseconds."""

KEPT = 0.9
"""Share of the average that stays from point to point: it looks back over about ten, 2 % of a curve of 500."""

_STATED = re.compile(r"^(?:\w+: )?(?P<text>.+), (?P<done>\d+) of (?P<total>\d+)(?:, (?P<left>[\d:]+) left)?$")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` (0: not known) of the command in work, of which the job has `commands`.

    `seconds_left` is None where it cannot be told. `loss` is that of the last step of a training.
    """

    done: int = 0
    total: int = 0
    text: str = ""
    seconds_left: float | None = None
    loss: float | None = None
    command: int = 0
    commands: int = 1


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Loss by step. `smoothed` is the exponential average, corrected for its start (Kingma and Ba 2015, section 3).

    A point of a long run stands for the mean of some steps around it. `validation` holds (step, loss).
    """

    steps: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    smoothed: tuple[float, ...] = ()
    validation: tuple[tuple[int, float], ...] = ()


def log_path(home: Path, job: Job) -> Path:
    """Return the log of the command in work."""
    return home / "jobs" / job.id / f"log-{_place(job)}.txt"


def output_path(home: Path, job: Job) -> Path:
    """Return where the command in work writes its answer."""
    return home / "jobs" / job.id / f"out-{_place(job)}.json"


def run_folder(home: Path, job: Job) -> Path:
    """Return the run directory of a training."""
    words = job.command
    if "--resume" in words[:-1]:
        return home / words[words.index("--resume") + 1]
    return home / job.folder


def saved_step(home: Path, job: Job) -> int:
    """Return the step up to which the work of a training is saved; 0 of other jobs."""
    return int(_status(run_folder(home, job)).get("step", 0)) if job.is_training else 0


def progress(home: Path, job: Job) -> Progress:
    """Return how far a job is."""
    place = {"command": _place(job), "commands": len(job.commands)}
    if job.state == "done":
        return Progress(done=1, total=1, text="done", seconds_left=0.0, **place)
    training = _training_progress(home, job, place) if any(each[0] == "train" for each in job.commands) else None
    stated = _stated(home, job, place)
    if training is None or (job.state == "running" and stated is not None and not job.is_training):
        return stated or Progress(text=job.state, **place)
    return training


def loss_curve(home: Path, job: Job, points: int) -> LossCurve:
    """Return the loss of a run in at most so many points."""
    path = run_folder(home, job) / "metrics.jsonl"
    if points < 1 or not path.exists() or path.stat().st_size == 0:
        return LossCurve()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        groups = list(_groups(data, points))
        validation = _thinned(list(_validation(data)), points)
    steps = [group[-1][0] for group in groups]
    losses = [statistics.fmean(loss for _, loss in group) for group in groups]
    return LossCurve(
        steps=tuple(steps), loss=tuple(losses), smoothed=tuple(_smoothed(losses)), validation=tuple(validation)
    )


def previews(home: Path, job: Job) -> list[tuple[int, Path]]:
    """Return the previews of a run with their steps."""
    found = sorted((run_folder(home, job) / "previews").glob("step-*-*.png"))
    return [(int(path.stem.split("-")[1]), path) for path in found]


def error_in(log: Path, start: int = 0) -> tuple[str, str]:
    """Return the last error that a command told in its log from byte `start` on, and its remedy; "" where none."""
    return last_error(tail(log, TAIL, start=start))


def last_error(text: str) -> tuple[str, str]:
    """Return the last error that a command wrote, and its remedy; "" where none."""
    for line in reversed(text.splitlines()):
        if line.startswith(("error: ", "Error: ")):
            return _without_remedy(line[len("error: ") :].strip())
    return "", ""


def tail(path: Path, limit: int = TAIL, *, start: int = 0) -> str:
    """Return the last bytes of a text, from a line's beginning on; "" where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = max(start, size - limit)
            file.seek(begin)
            data = file.read()
    except OSError:
        return ""
    if begin > start:
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", errors="replace")


def _place(job: Job) -> int:
    return min(job.at, len(job.commands) - 1)


def _without_remedy(said: str) -> tuple[str, str]:
    """Split "message (hint)", where both may hold brackets of their own."""
    depth = 0
    for place in range(len(said) - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(said[place], 0)
        if depth == 0:
            break
    else:
        return said, ""
    if not said.endswith(")") or said[place - 1] != " ":
        return said, ""
    return said[: place - 1], said[place + 1 : -1]


def _status(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _training_progress(home: Path, job: Job, place: Mapping[str, int]) -> Progress | None:
    """Return how far a run is; None before its first step, while pictures are looked at and encoded."""
    run = run_folder(home, job)
    status, rows = _status(run), _rows(tail(run / "metrics.jsonl"))
    steps = [row for row in rows if "loss" in row]
    if not status or (not steps and job.state not in ENDED):
        return None
    last = steps[-1] if steps else {"step": status.get("step", 0)}
    done, total = int(last["step"]), int(status.get("steps", 0))
    pace = [row["seconds"] for row in steps[-100:] if "seconds" in row]
    left = statistics.median(pace) * (total - done) if pace and job.state not in ENDED else None
    return Progress(done=done, total=total, text="training", seconds_left=left, loss=last.get("loss"), **place)


def _stated(home: Path, job: Job, place: Mapping[str, int]) -> Progress | None:
    """Return what a command says of its progress on its last line that tells any."""
    for line in reversed(tail(log_path(home, job)).splitlines()):
        found = _STATED.match(line)
        if found:
            left = found["left"]
            return Progress(
                done=int(found["done"]),
                total=int(found["total"]),
                text=found["text"],
                seconds_left=_seconds(left) if left else None,
                **place,
            )
    return None


def _seconds(clock: str) -> float:
    """Return "1:15" or "2:00:00" in seconds."""
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds


def _rows(text: str) -> list[dict[str, Any]]:
    """Return the lines of a metrics file that are whole."""
    rows = []
    for line in text.splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
    return rows


def _groups(data: mmap.mmap, points: int) -> Iterator[list[tuple[int, float]]]:
    """Return (step, loss) in groups, one per point: all rows of a short run, some at even distances of a long one."""
    size = len(data)
    end_of_first = data.find(b"\n") + 1 or size
    if size <= points * ROWS * end_of_first:
        rows = _losses(data[:])
        length = -(-len(rows) // points)
        yield from (rows[start : start + length] for start in range(0, len(rows), max(1, length)))
        return
    wanted = (ROWS + 1) * end_of_first  # the first line is cut
    for number in range(points):
        last = size - wanted
        begin = last * number // max(1, points - 1) if points > 1 else last
        piece = data[begin : begin + wanted]
        group = _losses(piece if begin == 0 else piece.partition(b"\n")[2])
        if group:
            yield group


def _losses(data: bytes) -> list[tuple[int, float]]:
    rows = _rows(data.decode("utf-8", errors="replace"))
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def _validation(data: mmap.mmap) -> Iterator[tuple[int, float]]:
    """Find the rows of validation, which are few, by their name: the 98 MB of a million steps take 0.15 s."""
    place = data.find(b'"validation_loss"')
    while place >= 0:
        begin, end = data.rfind(b"\n", 0, place) + 1, data.find(b"\n", place)
        end = end if end >= 0 else len(data)
        for row in _rows(data[begin:end].decode("utf-8", errors="replace")):
            yield row["step"], row["validation_loss"]
        place = data.find(b'"validation_loss"', end)


def _thinned(values: Sequence[tuple[int, float]], points: int) -> Sequence[tuple[int, float]]:
    """Return at most so many of the values, the last one among them."""
    stride = -(-len(values) // points)
    return values[::-1][::stride][::-1] if stride > 1 else values


def _smoothed(losses: Sequence[float]) -> Iterator[float]:
    average = 0.0
    for count, loss in enumerate(losses, start=1):
        average = KEPT * average + (1 - KEPT) * loss
        yield average / (1 - KEPT**count)
