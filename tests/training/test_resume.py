"""Work is never lost: a run that was killed, stopped or damaged ends with the bytes of one that was not."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest
from PIL import Image

from datasets_tools import storage
from lora_diffusion.errors import RunExists, SnapshotError
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.training import loop, snapshot
from lora_diffusion.training.events import Stepped
from lora_diffusion.training.stopping import StopRequest
from tests import tiny
from tests.training.everything import EVERYTHING, everything

# A child is forked from a server that has imported everything: it starts in milliseconds.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.training.child"])

STEPS = 10


@pytest.fixture(scope="module")
def whole(base, pictures, tmp_path_factory):
    """The adapter of the uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return loop.train(plan(base, pictures, out)).adapter.read_bytes()


@pytest.fixture(scope="module")
def done(base, pictures, tmp_path_factory):
    """A finished run whose copies find its pictures encoded."""
    place = tmp_path_factory.mktemp("done")
    return loop.train(plan(base, pictures, place / "out", f"data.cache={place / 'cache'}")).run


def plan(base, pictures, out, *more):
    overrides = (f"run.steps={STEPS}", "run.snapshot_every=2", "data.caption_dropout=0.3", *more)
    return tiny.plan(base, pictures, out, *overrides)


def child(target, *arguments):
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def go_on(base, pictures, out):
    """Train or resume in a child, as a user would after a crash."""
    from tests.training import child as work

    return child(work.train_or_resume, plan(base, pictures, out).model_dump_json())


@pytest.mark.slow
def test_kill_9_at_any_moment_costs_nothing(base, pictures, tmp_path, whole):
    go_on(base, pictures, tmp_path / "first").join()  # the server of the children imports everything meanwhile
    began = time.monotonic()
    go_on(base, pictures, tmp_path / "calm").join()
    usual = time.monotonic() - began
    draw, kills, runs = random.Random(0), 0, 0
    while kills < 12:
        runs += 1
        out = tmp_path / f"run{runs}"
        while not (out / "adapter.safetensors").exists():
            process = go_on(base, pictures, out)
            process.join(draw.uniform(0.1, 1.0) * usual)
            if process.is_alive():
                process.kill()
                kills += 1
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
        assert (out / "adapter.safetensors").read_bytes() == whole
        assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == list(
            range(1, STEPS + 1)
        )
    assert (tmp_path / "calm" / "adapter.safetensors").read_bytes() == whole


@pytest.mark.slow
def test_a_kill_at_every_write_fsync_and_rename_costs_nothing(base, pictures, tmp_path, whole):
    from tests.training import child as work

    boundaries = 0
    for boundary in range(0, 1000, 7):  # a step of 7 meets every kind of boundary of every kind of file
        out = tmp_path / f"at{boundary}"
        broken = child(work.train_until_boundary, plan(base, pictures, out).model_dump_json(), boundary)
        broken.join()
        if broken.exitcode == 0:
            boundaries = boundary
            break
        assert broken.exitcode == work.EXIT
        healed = go_on(base, pictures, out)
        healed.join()
        assert (out / "adapter.safetensors").read_bytes() == whole, f"after a kill at boundary {boundary}"
    assert boundaries > 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_work_and_stops(base, pictures, tmp_path, whole, number):
    from tests.training import child as work

    out = tmp_path / "out"
    process = child(work.train_and_signal, plan(base, pictures, out).model_dump_json(), int(number))
    process.join()
    assert process.exitcode == 0
    status = json.loads((out / "status.json").read_text())
    assert (status["status"], status["step"], status["reason"]) == ("stopped", 5, signal.Signals(number).name)
    assert loop.resume(out).adapter.read_bytes() == whole


def test_stopping_again_and_again_costs_nothing(base, pictures, tmp_path, whole):
    stop, out = StopRequest(), tmp_path / "out"
    stop.reason = "asked"
    done = loop.train(plan(base, pictures, out, "run.snapshot_every=0"), stop=stop)
    assert (done.status, done.steps, done.adapter) == ("stopped", 1, None)
    for step in range(2, 6):
        assert loop.resume(out, stop=stop).steps == step
    final = loop.resume(out)
    reference = loop.train(plan(base, pictures, tmp_path / "w", "run.snapshot_every=0"))
    assert final.adapter.read_bytes() == reference.adapter.read_bytes()


def test_a_caller_may_ask_for_a_stop_while_the_run_goes_on(base, pictures, tmp_path):
    stop = StopRequest()

    def tell(event):
        if isinstance(event, Stepped) and event.step == 3:
            stop.reason = "asked"

    assert loop.train(plan(base, pictures, tmp_path / "out"), stop=stop, on_event=tell).steps == 3


def test_a_stopped_run_is_made_an_adapter_without_a_further_step(base, pictures, tmp_path, whole):
    stop, out, told = StopRequest(), tmp_path / "out", []
    stop.reason = "asked"
    loop.train(plan(base, pictures, out), stop=stop)
    loop.resume(out, stop=stop)
    done = loop.finish(out, on_event=told.append)
    assert (done.status, done.steps, done.kept, done.reason) == ("finished", 2, 2, "finished early at step 2")
    assert not [event for event in told if isinstance(event, Stepped)]
    assert read_adapter(done.adapter).metadata["ss_steps"] == "2"
    status = json.loads((out / "status.json").read_text())
    assert (status["status"], status["step"], status["steps"]) == ("finished", 2, STEPS)
    early = done.adapter.read_bytes()
    assert loop.finish(out).adapter.read_bytes() == early
    assert loop.resume(out).adapter.read_bytes() == whole  # and it may still be trained to its end
    assert loop.finish(out).adapter.read_bytes() == whole


def test_without_a_snapshot_there_is_nothing_to_finish(base, pictures, tmp_path, done):
    out = shutil.copytree(done, tmp_path / "out")
    shutil.rmtree(out / "snapshots")
    with pytest.raises(SnapshotError, match="no snapshot to make an adapter of") as caught:
        loop.finish(out)
    assert f"--resume {out}" in caught.value.hint
    assert json.loads((out / "status.json").read_text())["status"] == "finished"


def test_dropout_is_drawn_again_after_a_resume(base, pictures, tmp_path):
    settings = ("adapter.dropout=0.5", "run.steps=4", "run.micro_batch=2")
    reference = loop.train(plan(base, pictures, tmp_path / "w", *settings))
    stop = StopRequest()
    stop.reason = "asked"
    loop.train(plan(base, pictures, tmp_path / "out", *settings), stop=stop)
    assert loop.resume(tmp_path / "out").adapter.read_bytes() == reference.adapter.read_bytes()


def test_a_finished_run_has_nothing_left_to_train(base, pictures, tmp_path):
    done = loop.train(plan(base, pictures, tmp_path / "out", "run.snapshot_every=0", "run.steps=3"))
    before, told = done.adapter.read_bytes(), []
    assert loop.resume(tmp_path / "out", on_event=told.append).adapter.read_bytes() == before
    assert not [event for event in told if isinstance(event, Stepped)]


def test_a_changed_setting_is_not_blamed_on_the_pictures(base, pictures, tmp_path):
    loop.train(plan(base, pictures, tmp_path / "out", "run.steps=3"))
    path = tmp_path / "out" / "plan.toml"
    path.write_text(path.read_text().replace("lr = 0.001", "lr = 0.002"))
    with pytest.raises(SnapshotError, match=r"settings in plan\.toml changed"):
        loop.resume(tmp_path / "out")


def test_a_resume_in_another_place_goes_on(base, pictures, tmp_path, whole):
    stop = StopRequest()
    stop.reason = "asked"
    loop.train(plan(base, pictures, tmp_path / "here"), stop=stop)
    shutil.move(tmp_path / "here", tmp_path / "there with spaces ü")
    assert loop.resume(tmp_path / "there with spaces ü").adapter.read_bytes() == whole


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "removed"])
def test_a_damaged_newest_snapshot_is_named_and_the_one_before_is_used(done, tmp_path, whole, caplog, file, damage):
    out = shutil.copytree(done, tmp_path / "out")
    (out / "adapter.safetensors").unlink()
    victim = out / "snapshots" / f"step-{STEPS:08d}" / file
    data = victim.read_bytes()
    middle = len(data) // 2
    damaged = {
        "truncated": data[:middle],
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "emptied": b"",
    }
    victim.unlink() if damage == "removed" else victim.write_bytes(damaged[damage])
    assert loop.resume(out).adapter.read_bytes() == whole
    assert victim.parent.name in caplog.text
    assert (out / "snapshots" / f"damaged-{victim.parent.name}").is_dir()


def test_a_resume_refuses_changed_pictures(base, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 4)
    stop = StopRequest()
    stop.reason = "asked"
    loop.train(plan(base, folder, tmp_path / "out"), stop=stop)
    (folder / "00.txt").write_text("something else")
    with pytest.raises(SnapshotError, match="changed since"):
        loop.resume(tmp_path / "out")


def test_a_run_has_one_owner(base, pictures, tmp_path):
    from lora_diffusion.training.run import Run

    stop = StopRequest()
    stop.reason = "asked"
    loop.train(plan(base, pictures, tmp_path / "out"), stop=stop)
    with Run.open(tmp_path / "out").locked(), pytest.raises(RunExists, match=f"process {os.getpid()} on"):
        loop.resume(tmp_path / "out")


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path):
    with pytest.raises(RunExists, match="holds no run"):
        loop.resume(tmp_path)


def test_a_full_disk_stops_with_the_remedy_and_the_run_goes_on_afterwards(base, pictures, tmp_path, whole, monkeypatch):
    from datasets_tools.errors import OutOfSpace

    def full(kind, path):
        if "step-00000006" in str(path):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "_boundary", full)
        with pytest.raises(OutOfSpace) as caught:
            loop.train(plan(base, pictures, tmp_path / "out"))
    assert caught.value.hint
    assert snapshot.newest(tmp_path / "out" / "snapshots").step == 4
    assert loop.resume(tmp_path / "out").adapter.read_bytes() == whole


def test_a_resume_is_exact_in_bf16_whatever_size_comes_first(tmp_path):
    """Packed weights and kernels may choose by the first shape they meet; a resume meets another one first."""
    folder = tiny.pictures(tmp_path / "p", 5, sizes=((128, 128), (192, 96), (96, 160)))
    settings = ("run.precision=bf16", "run.batch_size=2", "run.steps=5", "run.snapshot_every=0")
    whole = loop.train(tiny.plan("demo", folder, tmp_path / "whole", *settings))
    stop = StopRequest()
    stop.reason = "asked"
    loop.train(tiny.plan("demo", folder, tmp_path / "parts", *settings), stop=stop)
    for _ in range(3):
        loop.resume(tmp_path / "parts", stop=stop)
    assert loop.resume(tmp_path / "parts").adapter.read_bytes() == whole.adapter.read_bytes()


def test_a_resume_is_exact_with_everything_on_at_once(base, tmp_path):
    folder, beside = everything(tmp_path)
    settings = (*EVERYTHING, f"data.regularisation={beside}", f"validation.folder={beside}", "run.snapshot_every=2")
    whole = loop.train(tiny.plan(base, folder, tmp_path / "whole", *settings, "run.steps=6"))
    stop = StopRequest()
    stop.reason = "asked"
    loop.train(tiny.plan(base, folder, tmp_path / "parts", *settings, "run.steps=6"), stop=stop)
    loop.resume(tmp_path / "parts", stop=stop)
    assert loop.resume(tmp_path / "parts").adapter.read_bytes() == whole.adapter.read_bytes()
    books = [
        [{**row, "seconds": 0} for row in map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())]
        for name in ("whole", "parts")
    ]
    assert books[0] == books[1]
    assert [row["step"] for row in books[0]] == [1, 2, 2, 3, 4, 4, 5, 6, 6]


def test_a_resume_refuses_another_mask_and_allows_another_validation_set(base, tmp_path):
    folder, masks = tiny.pictures(tmp_path / "p", 2), tiny.pictures(tmp_path / "masks", 2)
    held_out = tiny.pictures(tmp_path / "held", 2)
    stop = StopRequest()
    stop.reason = "asked"
    more = (f"data.masks={masks}", f"validation.folder={held_out}", "run.steps=3")
    loop.train(plan(base, folder, tmp_path / "out", *more), stop=stop)
    (held_out / "00.txt").write_text("something else")
    loop.resume(tmp_path / "out", stop=stop)
    Image.new("L", (96, 64), 128).save(masks / "01.png")
    with pytest.raises(SnapshotError, match="changed since"):
        loop.resume(tmp_path / "out")
