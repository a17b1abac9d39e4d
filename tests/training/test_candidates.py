"""A run keeps adapters on its way, the same ones however often it was interrupted."""

import pytest

from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.training import loop
from lora_diffusion.training.candidates import candidates, is_candidate
from lora_diffusion.training.events import Started, Stepped
from lora_diffusion.training.plan import RunPlan
from lora_diffusion.training.stopping import StopRequest
from tests import tiny


def kept(folder):
    return dict(candidates(folder / "candidates"))


@pytest.fixture(scope="module")
def whole(base, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("candidates") / "whole"
    return loop.train(tiny.plan(base, pictures, out, "run.steps=8", "run.candidates=3", "run.snapshot_every=3"))


@pytest.mark.parametrize(
    ("steps", "count", "at"),
    [(400, 3, [100, 200, 300]), (10, 3, [2, 5, 8]), (2, 3, [1]), (1, 3, []), (100, 0, []), (3, 50, [1, 2])],
)
def test_they_lie_evenly_apart_before_the_last_step(steps, count, at):
    plan = RunPlan(steps=steps, candidates=count)
    assert [step for step in range(1, steps + 1) if is_candidate(plan, step)] == at


def test_each_is_the_adapter_of_a_run_that_ends_there(whole, base, pictures, tmp_path):
    shorter = tiny.plan(base, pictures, tmp_path / "shorter", "run.steps=4", "schedule.kind=constant")
    longer = tiny.plan(base, pictures, tmp_path / "longer", "run.steps=8", "schedule.kind=constant")
    there, beyond = loop.train(shorter), loop.train(longer)
    found = kept(beyond.run)
    assert sorted(found) == [2, 4, 6]
    assert found[4].read_bytes() == there.adapter.read_bytes()
    assert read_adapter(found[6]).metadata["ss_steps"] == "6"


def test_they_change_nothing_of_the_result(whole, base, pictures, tmp_path):
    without = loop.train(tiny.plan(base, pictures, tmp_path / "out", "run.steps=8", "run.candidates=0"))
    assert without.adapter.read_bytes() == whole.adapter.read_bytes()
    assert not (without.run / "candidates").exists()


def test_a_resumed_run_has_the_same(whole, base, pictures, tmp_path):
    stop = StopRequest()

    def tell(event):
        if isinstance(event, Stepped) and event.step == 5:
            stop.reason = "asked"

    plan = tiny.plan(base, pictures, tmp_path / "out", "run.steps=8", "run.candidates=3", "run.snapshot_every=3")
    stopped = loop.train(plan, stop=stop, on_event=tell)
    assert sorted(kept(stopped.run)) == [2, 4]
    done = loop.resume(stopped.run)
    assert {step: path.read_bytes() for step, path in kept(done.run).items()} == {
        step: path.read_bytes() for step, path in kept(whole.run).items()
    }


def test_those_of_steps_that_are_run_again_are_forgotten(whole, base, pictures, tmp_path):
    """A kill between a candidate and the next snapshot leaves one that the resume makes anew."""
    stop = StopRequest()

    def tell(event):
        if isinstance(event, Stepped) and event.step == 3:
            stop.reason = "asked"

    plan = tiny.plan(base, pictures, tmp_path / "out", "run.steps=8", "run.candidates=3")
    stopped = loop.train(plan, stop=stop, on_event=tell)
    (stopped.run / "candidates" / "step-00000004.safetensors").write_bytes(b"of a run that was killed")
    seen = []
    loop.resume(
        stopped.run, on_event=lambda event: isinstance(event, Started) and seen.append(sorted(kept(stopped.run)))
    )
    assert seen == [[2]]
