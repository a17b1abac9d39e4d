"""A run is a directory: plan, metrics, snapshots, previews, status, and in the end adapter.safetensors.

plan.toml               the plan as it is trained, with what `auto` came to
manifest.jsonl          the pictures as they were found
metrics.jsonl           one line per step
snapshots/step-*/       state for resume
previews/               pictures drawn during training
best/step-*.safetensors adapters that were the best on the validation pictures, where one is to be kept
candidates/step-*.safetensors  adapters on the way, evenly apart, to choose from
status.json             running, finished, stopped or failed, and the step
adapter.safetensors     the result
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from datasets_tools.storage import append_line, remove_leftovers, require_writable, write_json, write_text
from lora_diffusion.errors import RunExists
from lora_diffusion.settings import from_toml, to_toml
from lora_diffusion.training.plan import TrainPlan

__all__ = ["Run", "Status"]

Status = Literal["running", "finished", "stopped", "failed"]


class Run:
    """A run directory that one process owns while it is open."""

    def __init__(self, folder: Path, plan: TrainPlan) -> None:
        self.folder = folder
        self.plan = plan

    @classmethod
    def create(cls, plan: TrainPlan) -> "Run":
        """Claim run.out for a new run. Nothing is written before `begin`. Raises RunExists."""
        folder = Path(plan.run.out)
        if os.path.exists(folder / "plan.toml"):  # unlike Path.exists it leaves a name too long to require_writable
            raise RunExists(
                f"{folder} already holds a run",
                hint=f"continue it with `lora-diffusion train --resume {folder}`, or choose another run.out",
            )
        if os.path.isfile(folder):
            raise RunExists(f"{folder} is a file", hint="choose another run.out")
        return cls(folder, plan)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open a run that was begun. Raises RunExists where there is none."""
        if not (folder / "plan.toml").is_file():
            raise RunExists(f"{folder} holds no run (no plan.toml)", hint="name the run.out of the run to continue")
        plan = from_toml(TrainPlan, folder / "plan.toml")
        moved = plan.run.model_copy(update={"out": str(folder)})
        return cls(folder, plan.model_copy(update={"run": moved}))

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter.safetensors"

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    @property
    def previews(self) -> Path:
        return self.folder / "previews"

    @property
    def best(self) -> Path:
        return self.folder / "best"

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates"

    @property
    def cache(self) -> Path:
        return Path(self.plan.data.cache) if self.plan.data.cache else self.folder.absolute().parent / ".cache"

    def require_writable(self) -> None:
        """Raise DatasetError unless the result could now be written: before hours of work, not after them."""
        require_writable(self.adapter)

    def begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "plan.toml").exists():
            write_text(self.folder / "plan.toml", to_toml(self.plan))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Own the directory for the length of a block; the system frees the lock when the owner dies.

        Raises RunExists naming the owner's process and host.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock, note = FileLock(self.folder / ".lock"), self.folder / ".owner.json"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = json.loads(note.read_text("utf-8")) if note.exists() else {"pid": "?", "host": "?"}
            raise RunExists(
                f"{self.folder} is being trained by process {owner['pid']} on {owner['host']}",
                hint="wait for it, stop it, or choose another run.out",
            ) from None
        try:
            for folder in (self.folder, self.snapshots, self.best, self.candidates):  # what a killed owner left aside
                remove_leftovers(folder)
            write_json(note, {"pid": os.getpid(), "host": socket.gethostname()})
            yield
        finally:
            lock.release()

    def set_status(self, status: Status, step: int, **more: Any) -> None:
        write_json(self.folder / "status.json", {"status": status, "step": step, "steps": self.plan.run.steps, **more})

    def log(self, row: dict[str, Any]) -> None:
        append_line(self.folder / "metrics.jsonl", json.dumps(row))

    def validation_losses(self) -> dict[int, float]:
        """Return what was measured on the validation pictures, by step; a line that a kill cut off counts as none."""
        path, found = self.folder / "metrics.jsonl", dict[int, float]()
        for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
            with suppress(ValueError, KeyError):
                row = json.loads(line)
                found[row["step"]] = row["validation_loss"]
        return found

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resume runs again, so that every step stands there once."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return
        rows = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        kept = [line for line in rows if _step_of(line) <= step]
        if len(kept) < len(rows):
            write_text(path, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
