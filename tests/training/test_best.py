"""A run keeps the adapter of its best step where it is told to, and ends where it gets no better; a resume agrees."""

import json
import math

import pytest

from lora_diffusion.errors import PlanError, SnapshotError
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.training import best, loop
from lora_diffusion.training.best import Best
from lora_diffusion.training.candidates import candidate_path, forget_after
from lora_diffusion.training.events import Stepped
from lora_diffusion.training.stopping import StopRequest
from lora_diffusion.training.validation import Validation
from tests import tiny

LOSSES = {2: 0.5, 4: 0.3, 6: 0.4, 8: 0.3, 10: 0.6, 12: 0.2}
"""The validation loss of a run by step: lowest at 4, until step 12 is better still."""


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    return tiny.pictures(tmp_path_factory.mktemp("held") / "p", 2)


@pytest.fixture
def measured(monkeypatch):
    """Real validation, with a known curve added to what it measures: a toy run has no plateau of its own."""
    steps = []
    whole = Validation.total

    def total(self, rank=0, world=1):
        real = whole(self, rank, world)
        return real * 0 + LOSSES[steps[-1]] * self.size

    take = loop.Session._take_step

    def taken(self):
        take(self)
        steps.append(self.step)

    monkeypatch.setattr(Validation, "total", total)
    monkeypatch.setattr(loop.Session, "_take_step", taken)
    return steps


def plan(base, pictures, out, held_out, *more):
    settings = ("run.steps=12", "run.snapshot_every=2", f"validation.folder={held_out}", "validation.every=2")
    return tiny.plan(base, pictures, out, *settings, *more)


def stopping(step):
    """Return a request to stop and the event handler that makes it after a step."""
    stop = StopRequest()

    def tell(event):
        if isinstance(event, Stepped) and event.step == step:
            stop.reason = "asked"

    return {"stop": stop, "on_event": tell}


def status(done):
    return json.loads((done.run / "status.json").read_text())


def test_the_adapter_of_the_best_step_is_that_of_a_run_stopped_there(base, pictures, held_out, tmp_path, measured):
    kept = loop.train(plan(base, pictures, tmp_path / "best", held_out, "validation.keep=best", "run.steps=10"))
    loop.train(plan(base, pictures, tmp_path / "there", held_out, "run.steps=10"), **stopping(4))
    there = loop.finish(tmp_path / "there")
    assert (kept.steps, kept.kept, kept.status, there.kept) == (10, 4, "finished", 4)
    assert kept.adapter.read_bytes() == there.adapter.read_bytes()
    assert read_adapter(kept.adapter).metadata["ss_steps"] == "4"
    assert status(kept)["kept"] == 4


def test_without_being_told_a_run_keeps_its_last_step(base, pictures, held_out, tmp_path, measured):
    last = loop.train(plan(base, pictures, tmp_path / "last", held_out, "run.steps=10"))
    plain = loop.train(tiny.plan(base, pictures, tmp_path / "plain", "run.steps=10", "run.snapshot_every=2"))
    assert last.adapter.read_bytes() == plain.adapter.read_bytes()
    assert last.kept == 10
    assert not (last.run / "best").exists()


def test_the_last_step_may_be_the_best(base, pictures, held_out, tmp_path, measured):
    done = loop.train(plan(base, pictures, tmp_path / "out", held_out, "validation.keep=best"))
    plain = loop.train(tiny.plan(base, pictures, tmp_path / "plain", "run.steps=12"))
    assert done.kept == 12
    assert done.adapter.read_bytes() == plain.adapter.read_bytes()


def test_a_plateau_ends_a_run_with_its_reason(base, pictures, held_out, tmp_path, measured):
    done = loop.train(plan(base, pictures, tmp_path / "out", held_out, "validation.patience=2"))
    assert (done.status, done.steps, done.kept) == ("finished", 8, 8)
    assert done.reason == "no lower validation loss since step 4"
    assert (status(done)["status"], status(done)["step"], status(done)["reason"]) == ("finished", 8, done.reason)
    assert read_adapter(done.adapter).metadata["ss_steps"] == "8"
    longer = loop.train(plan(base, pictures, tmp_path / "longer", held_out, "validation.patience=4"))
    assert longer.steps == 12


def test_a_run_that_ended_on_a_plateau_stays_ended_and_goes_on_with_more_patience(
    base, pictures, held_out, tmp_path, measured
):
    more = ("validation.patience=2", "validation.keep=best", "run.snapshot_every=0")
    done = loop.train(plan(base, pictures, tmp_path / "out", held_out, *more))
    before, told = done.adapter.read_bytes(), []
    again = loop.resume(tmp_path / "out", on_event=told.append)
    assert (again.adapter.read_bytes(), again.steps, again.kept) == (before, 8, 4)
    assert not [event for event in told if isinstance(event, Stepped)]
    path = tmp_path / "out" / "plan.toml"
    path.write_text(path.read_text().replace("patience = 2", "patience = 9"))
    plain = loop.train(tiny.plan(base, pictures, tmp_path / "plain", "run.steps=12", "run.snapshot_every=0"))
    assert loop.resume(tmp_path / "out").adapter.read_bytes() == plain.adapter.read_bytes()


@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 8, 9])
def test_a_resume_from_any_step_keeps_the_same_adapter(base, pictures, held_out, tmp_path, measured, step):
    more = ("validation.keep=best", "run.steps=10", "run.snapshot_every=3")
    whole = loop.train(plan(base, pictures, tmp_path / "whole", held_out, *more))
    loop.train(plan(base, pictures, tmp_path / "parts", held_out, *more), **stopping(step))
    done = loop.resume(tmp_path / "parts")
    assert done.kept == 4
    assert done.adapter.read_bytes() == whole.adapter.read_bytes()


def test_a_resume_from_the_snapshot_before_finds_the_best_of_that_time(base, pictures, held_out, tmp_path, measured):
    """The newest snapshot is damaged, and what was the best after the one before it is forgotten."""
    more = ("validation.keep=best", "run.snapshot_every=3")
    loop.train(plan(base, pictures, tmp_path / "out", held_out, *more))
    assert [path.stem for path in sorted((tmp_path / "out" / "best").iterdir())] == ["step-00000004", "step-00000012"]
    (tmp_path / "out" / "snapshots" / "step-00000012" / "state.json").write_text("{}")
    (tmp_path / "out" / "adapter.safetensors").unlink()
    loop.resume(tmp_path / "out", **stopping(10))
    assert [path.stem for path in (tmp_path / "out" / "best").iterdir()] == ["step-00000004"]
    assert loop.finish(tmp_path / "out").kept == 4


def test_a_missing_best_adapter_is_named(base, pictures, held_out, tmp_path, measured):
    more = ("validation.keep=best", "run.steps=10")
    loop.train(plan(base, pictures, tmp_path / "out", held_out, *more), **stopping(6))
    candidate_path(tmp_path / "out" / "best", 4).unlink()
    with pytest.raises(SnapshotError, match=r"step-00000004.safetensors.*missing") as caught:
        loop.finish(tmp_path / "out")
    assert "keep = last" in caught.value.hint


@pytest.mark.parametrize("setting", ["validation.keep=best", "validation.patience=1"])
def test_what_compares_steps_needs_something_to_compare(base, pictures, held_out, tmp_path, setting):
    for more in ((), (f"validation.folder={held_out}",), ("validation.every=2",)):
        with pytest.raises(PlanError, match=r"set validation\.folder and validation\.every"):
            tiny.plan(base, pictures, tmp_path / "out", setting, *more)


def test_the_lowest_loss_is_the_best_and_the_first_of_equal_ones():
    found = Best()
    for step, loss in LOSSES.items():
        found = found.after(step, loss)
        assert found.step == {2: 2, 4: 4, 6: 4, 8: 4, 10: 4, 12: 12}[step]
    assert found == Best(step=12, loss=0.2, worse=0)
    assert Best().after(1, math.nan) == Best(worse=1)


def test_adapters_are_kept_for_the_snapshots_that_may_come_back_to_them(tmp_path):
    for step in (2, 6, 8, 12):
        candidate_path(tmp_path, step).touch()
    best.prune(tmp_path, [7, 11])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["step-00000006", "step-00000008"]
    forget_after(tmp_path, 6)
    assert [path.stem for path in tmp_path.iterdir()] == ["step-00000006"]
