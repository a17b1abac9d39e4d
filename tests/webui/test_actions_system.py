"""What the studio takes on the disk, and that a clean-up takes nothing that somebody still needs."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from lora_diffusion import Lineage
from webui.actions import act
from webui.jobs import Jobs
from webui.users import User

ADA = User(name="Ada", role="admin")
WHEN = "2026-01-02T03:04:05+00:00"
OLD = time.time() - 3 * 86400


@pytest.fixture
def queue(studio):
    """A studio whose jobs wait: their keeper ends at once."""
    studio.__dict__["jobs"] = Jobs(studio.home / "jobs.db", keeper=(sys.executable, "-c", "pass"))
    return studio


def given(studio, *, gone=True, old=True):
    """Submit a training; return the plan and the pictures that it was given."""
    plan = act(studio, ADA, "train.suggest", set="demo:papercut", quality="quick").plan
    job = act(studio, ADA, "train.start", plan=plan, name="Paper")
    run = Path(studio.jobs.get(job.id).folder)
    if gone:
        act(studio, ADA, "jobs.stop", id=job.id)
        act(studio, ADA, "jobs.remove", id=job.id)
    found = run.with_suffix(".toml"), run.with_suffix(".pictures")
    for path in found if old else ():
        os.utime(path, (OLD, OLD))
    return found


def passing(studio, folder):
    return next(use.passing for use in act(studio, ADA, "system.disk")["uses"] if use.folder == folder)


def test_what_a_training_was_given_goes_when_its_job_is_gone(queue):
    plan, pictures = given(queue)
    can_go = passing(queue, "runs")
    assert can_go >= plan.stat().st_size
    assert act(queue, ADA, "system.clean")["freed"] == can_go
    assert not plan.exists()
    assert not pictures.exists()
    assert passing(queue, "runs") == 0


def test_what_a_job_or_a_version_needs_and_what_just_came_stays(queue, shipped):
    waiting, fresh, taught = given(queue, gone=False), given(queue, old=False), given(queue)
    lineage = Lineage(plan=taught[0].read_text("utf-8"), method="train")
    queue.library.add(shipped / "papercut.safetensors", name="Paper", by="Ada", when=WHEN, lineage=lineage)
    kept = [path for pair in (waiting, fresh, taught) for path in pair]
    files = sorted(queue.home.joinpath("runs").rglob("*"))
    act(queue, ADA, "system.clean")
    assert all(path.exists() for path in kept)
    assert sorted(queue.home.joinpath("runs").rglob("*")) == files


def test_the_folder_of_a_drawing_that_has_just_begun_stays(studio):
    begun, left = studio.home / "pictures" / "begun", studio.home / "pictures" / "left"
    for folder in (begun, left):
        folder.mkdir()
    os.utime(left, (OLD, OLD))
    act(studio, ADA, "system.clean")
    assert begun.exists()
    assert not left.exists()


def test_an_old_small_copy_goes_and_a_log_and_a_new_one_stay(studio):
    for name in ("old.webp", "new.webp", "old.log"):
        (studio.home / "tmp" / name).write_bytes(b"12345")
    for name in ("old.webp", "old.log"):
        os.utime(studio.home / "tmp" / name, (OLD - 7 * 86400, OLD - 7 * 86400))
    assert (passing(studio, "tmp"), act(studio, ADA, "system.clean")["freed"]) == (5, 5)
    assert sorted(path.name for path in (studio.home / "tmp").iterdir()) == ["new.webp", "old.log"]
    shutil.rmtree(studio.home / "tmp")
    assert passing(studio, "tmp") == 0
