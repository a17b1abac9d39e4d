"""What has been done, whether it is whole, and what it takes on the disk."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from datasets_tools import Finding, free_bytes
from lora_diffusion import Event
from webui.actions import At, action

__all__ = ["Use"]

DAY = 86400.0
FOLDERS = ("objects", "datasets", "runs", "pictures", "exports", "uploads", "tmp", "jobs")
PASSING = {"uploads": DAY, "tmp": 7 * DAY, "pictures": DAY}
"""Folders whose files are copies or can be made again -> seconds after which they may go."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """What one folder takes; `passing` is what a clean-up would free of it, both in bytes."""

    folder: str
    files: int
    bytes: int
    passing: int


@action(role="viewer", writes=False, same_as="library history")
def audit(
    at: At,
    *,
    about: Annotated[str, Field(max_length=200)] = "",
    before: Annotated[int, Field(ge=0, lt=2**53)] = 0,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
) -> list[Event]:
    """List what was done, newest first: by whom, when and why."""
    return list(at.studio.library.history(about, limit=limit, before=before))


@action(role="approver", writes=False, same_as="library verify")
def verify(at: At) -> list[Finding]:
    """Read every file and record again, and list each byte that is not as it was left."""
    return list(at.studio.library.verify())


@action(role="viewer", writes=False)
def disk(at: At) -> dict[str, object]:
    """Say what the studio takes on the disk, and what is free, in bytes."""
    uses = [_use(at.studio.home / name, PASSING.get(name)) for name in FOLDERS]
    return {"uses": uses, "free": free_bytes(at.studio.home)}


@action(role="admin")
def clean(at: At) -> dict[str, int]:
    """Remove what can go: uploads of yesterday, small copies of last week, what drawings left behind."""
    freed = 0
    for name, age in PASSING.items():
        for path in _passing(at.studio.home / name, age):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        _remove_empty(at.studio.home / name)
    return {"freed": freed}


def _use(folder: Path, age: float | None) -> Use:
    sizes = [path.stat().st_size for path in _files(folder)]
    passing = sum(path.stat().st_size for path in _passing(folder, age)) if age else 0
    return Use(folder=folder.name, files=len(sizes), bytes=sum(sizes), passing=passing)


def _passing(folder: Path, age: float) -> list[Path]:
    return [path for path in _files(folder) if path.stat().st_mtime < time.time() - age and path.suffix != ".log"]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _remove_empty(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)
