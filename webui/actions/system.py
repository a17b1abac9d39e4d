"""What has been done, whether it is whole, and what it takes on the disk."""

import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from datasets_tools import Finding, free_bytes
from lora_diffusion import Event
from webui.actions import At, action
from webui.disk import Found, bytes_of, files_below, is_older, remove_files, remove_old_folders

__all__ = ["Use"]

DAY = 86400.0
FOLDERS = ("objects", "datasets", "runs", "pictures", "exports", "uploads", "tmp", "jobs")
PASSING = {"uploads": DAY, "tmp": 7 * DAY, "pictures": DAY}
"""Folders whose files are copies or can be made again -> seconds after which they may go."""
GIVEN = (".pictures", ".toml")
"""Ends of the names of what a training is given, beside its run. What is younger than a day may still get its job."""


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
    told = at.studio.without_places  # events of earlier versions named the folder of an upload
    events = at.studio.library.history(about, limit=limit, before=before)
    return [replace(each, reason=told(each.reason)) for each in events]


@action(role="approver", writes=False, same_as="library verify")
def verify(at: At) -> list[Finding]:
    """Read every file and record again, and list each byte that is not as it was left."""
    return list(at.studio.library.verify())


@action(role="viewer", writes=False)
def disk(at: At) -> dict[str, object]:
    """Say what the studio takes on the disk, and what is free, in bytes."""
    return {"uses": [_use(at, name) for name in FOLDERS], "free": free_bytes(at.studio.home)}


@action(role="admin")
def clean(at: At) -> dict[str, int]:
    """Remove what can go: old uploads and small copies, what drawings left, what trainings were given that are gone."""
    freed = at.studio.uploads.sweep()
    for name in ("tmp", "pictures", "runs"):
        files = _passing(at, name)
        freed += bytes_of(files, if_gone=True)
        remove_files(files)
    for name in ("tmp", "pictures"):
        remove_old_folders(at.studio.home / name, time.time() - PASSING[name])
    for path in _given(at):
        shutil.rmtree(path, ignore_errors=True)
    return {"freed": freed}


def _use(at: At, name: str) -> Use:
    files = files_below(at.studio.home / name)
    passing = bytes_of(_passing(at, name), if_gone=True)
    return Use(folder=name, files=len(files), bytes=bytes_of(files), passing=passing)


def _passing(at: At, name: str) -> Found:
    """Return the files of a folder that can go."""
    if name == "runs":
        return files_below(*_given(at))
    before = time.time() - PASSING.get(name, math.inf)
    found = files_below(at.studio.home / name)
    return {path: one for path, one in found.items() if one.st_mtime < before and path.suffix != ".log"}


def _given(at: At) -> list[Path]:
    """Return the plans and pictures that trainings were given which are gone, and of which no version tells."""
    runs = at.studio.home / "runs"
    found = [path for path in runs.iterdir() if path.suffix in GIVEN and is_older(path, time.time() - DAY)]
    jobs = {Path(job.folder).name for job in at.studio.jobs.list(limit=-1)}
    left = [path for path in found if path.stem not in jobs]
    library = at.studio.library
    plans = [library.lineage(each.ref).plan for each in library.versions(every=True)] if left else []
    return [path for path in left if not any(path.stem in plan for plan in plans)]
