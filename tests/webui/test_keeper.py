"""Long work survives: whoever is killed, every job is done once, a training goes on, and no two run at once."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.webui.lane import PROGRAM
from webui import processes
from webui.jobs import Jobs
from webui.keeper import Keeper, sentence
from webui.lane import LaneTable, take

KEEPER = (sys.executable, "-P", str(Path(__file__).with_name("lane.py")))
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals are those of POSIX")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    return tmp_path


@pytest.fixture
def jobs(home):
    jobs = Jobs(home / "jobs.db", keeper=KEEPER)
    yield jobs
    for job in jobs.list(states=("running", "pausing", "stopping")):  # a test that failed leaves nothing behind
        pid = LaneTable(jobs.table, job.lane).work(job.id).pid
        if pid:
            processes.signal_group(pid, signal.SIGKILL)
    jobs.close()


def note(jobs, name, seconds=0.0, **more):
    command = ("note", name, str(seconds), "--json")
    return jobs.submit(kind="check", title=name, owner="ann", commands=[command], folder="out", **more)


def training(jobs, name, steps, then=()):
    folder = jobs.home / "runs" / name
    command = ("train", name, str(folder), str(steps), "--json")
    return jobs.submit(kind="train", title=name, owner="ann", commands=[command, *then], folder=folder)


def ledger(home):
    path = home / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def keep(home, lane):
    """Run a lane to its end in this process."""
    return Keeper(home, lane, program=PROGRAM, poll=0.01, grace={"train": 20.0, "deaf": 0.3}).run()


def keeper_process(home, lane):
    return subprocess.Popen([*KEEPER, str(home), lane], start_new_session=True)


def until(condition, seconds=20.0):
    """Wait for something that another process does."""
    late = time.monotonic() + seconds
    while time.monotonic() < late:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.01)  # between two looks at what no event tells
    raise AssertionError("it did not happen in time")


def test_jobs_of_a_lane_are_done_one_after_the_other_in_their_order(home, jobs):
    submitted = [note(jobs, name) for name in "abc"]
    jobs.move(submitted[2].id, before=submitted[0].id)
    assert keep(home, "files")
    assert ledger(home) == [f"{what} {name}" for name in "cab" for what in ("begin", "end")]
    done = jobs.get(submitted[1].id)
    assert (done.state, done.exit_code, done.result, done.error) == ("done", 0, {"name": "b"}, "")
    assert done.created <= done.started <= done.ended


def test_the_commands_of_a_job_run_one_after_the_other_and_leave_their_answers(home, jobs):
    job = jobs.submit(
        kind="export", title="x", owner="", commands=[("note", "one", "0"), ("note", "two", "0")], folder="out"
    )
    keep(home, "files")
    assert [answer["name"] for answer in jobs.get(job.id).results] == ["one", "two"]
    assert json.loads((jobs.folder(job.id) / "out-1.json").read_text()) == {"name": "two"}
    assert not list(jobs.folder(job.id).glob("exit-*"))


def test_the_lanes_do_not_wait_for_each_other(home, jobs):
    train, file = training(jobs, "a", 2), note(jobs, "b")
    keep(home, "files")
    assert (jobs.get(train.id).state, jobs.get(file.id).state) == ("queued", "done")


def test_what_was_found_ends_a_job_well_and_keeps_the_next_command_from_running(home, jobs):
    alone = jobs.submit(kind="check", title="x", owner="", commands=[("find",)], folder="out")
    before = jobs.submit(kind="train", title="y", owner="", commands=[("find",), ("note", "n", "0")], folder="out")
    keep(home, "files")
    assert (jobs.get(alone.id).state, jobs.get(alone.id).exit_code) == ("done", 1)
    assert jobs.get(alone.id).result == {"findings": ["blurred"]}
    assert (jobs.get(before.id).state, jobs.get(before.id).error) == ("failed", sentence(1))
    assert ledger(home) == []


def test_an_error_is_told_with_its_remedy(home, jobs):
    (jobs.home / "runs" / "a").mkdir(parents=True)
    job = training(jobs, "a", 2)
    keep(home, "train")
    failed = jobs.get(job.id)
    assert (failed.state, failed.exit_code) == ("failed", 2)
    assert failed.error == f"{home / 'runs' / 'a'} already holds a run (of (another) plan)"
    assert failed.hint == "choose another run.out"


def test_a_run_of_another_job_is_never_resumed(home, jobs):
    folder = jobs.home / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "plan.toml").write_text(json.dumps({"name": "other", "steps": 3}))
    job = training(jobs, "a", 2)
    keep(home, "train")
    jobs.retry(job.id)
    keep(home, "train")
    assert jobs.get(job.id).state == "failed"
    assert ledger(home) == []


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("fall", "9"), -9, "Memory ran out, or it was ended from outside."),
        (("fall", "11"), -11, "It crashed (SIGSEGV); the log may say more."),
        (("crash",), 1, "It failed; the log says more."),
    ],
)
def test_exit_codes_become_sentences(home, jobs, command, code, said):
    job = jobs.submit(kind="merge", title="x", owner="", commands=[command], folder="out")
    keep(home, "files")
    failed = jobs.get(job.id)
    assert (failed.state, failed.exit_code) == ("failed", code)
    assert failed.error.startswith(said)


def test_a_program_that_is_not_there_fails_with_a_sentence(home, jobs):
    job = note(jobs, "a")
    Keeper(home, "files", program=("/no/such/program",), poll=0.01).run()
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == ("failed", sentence(3))
    assert "No such file" in jobs.log(jobs.get(job.id))


def test_jobs_see_no_tokens_and_no_network(home, jobs, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    job = jobs.submit(kind="check", title="x", owner="", commands=[("show",)], folder="out")
    keep(home, "files")
    seen = jobs.get(job.id).result
    assert "secret" not in seen.values()
    assert seen["HF_HUB_OFFLINE"] == "1"
    assert seen["PATH"] == os.environ["PATH"]


def test_a_keeper_leaves_where_there_is_one(home, jobs):
    note(jobs, "a", 0.3)
    first = keeper_process(home, "files")
    until(lambda: ledger(home))
    assert not keep(home, "files")
    assert first.wait(20) == 0
    assert ledger(home) == ["begin a", "end a"]


def test_a_paused_training_waits_and_goes_on_where_it_was(home, jobs):
    job = training(jobs, "a", 60)
    jobs.wake()
    until(lambda: "step a 3" in ledger(home))
    assert jobs.pause(job.id).state == "pausing"
    paused = until(lambda: (found := jobs.get(job.id)).state == "paused" and found)
    assert paused.ended == ""
    assert jobs.resume(job.id).state == "queued"
    jobs.wake()
    until(lambda: jobs.get(job.id).state == "done")
    assert [line for line in ledger(home) if line.startswith("step")] == [f"step a {step}" for step in range(1, 61)]
    assert jobs.get(job.id).result == {"status": "finished", "steps": 60}


def test_a_stopped_training_keeps_its_work_and_can_be_resumed(home, jobs):
    job = training(jobs, "a", 60)
    jobs.wake()
    until(lambda: "step a 3" in ledger(home))
    jobs.stop(job.id)
    until(lambda: jobs.get(job.id).state == "stopped")
    assert json.loads((home / "runs" / "a" / "status.json").read_text())["step"] < 60
    jobs.resume(job.id)
    jobs.wake()
    until(lambda: jobs.get(job.id).state == "done")
    assert [line for line in ledger(home) if line.startswith("step")] == [f"step a {step}" for step in range(1, 61)]


def test_what_does_not_stop_when_asked_is_killed_in_the_end(home, jobs):
    job = jobs.submit(kind="merge", title="x", owner="", commands=[("deaf",)], folder="out")
    jobs.wake()
    until(lambda: ledger(home))
    jobs.stop(job.id)
    stopped = until(lambda: (found := jobs.get(job.id)).state == "stopped" and found)
    assert stopped.exit_code == -9


def test_a_job_that_ends_while_it_is_asked_to_stop_is_done(home, jobs):
    """The answer of the command decides: nothing is left to be stopped."""
    job = note(jobs, "a")
    lane = LaneTable(jobs.table, "files")
    lane.next()
    jobs.stop(job.id)
    lane.next_command(jobs.get(job.id), {"name": "a"}, 0)
    assert jobs.get(job.id).state == "done"


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_kill_9_of_keepers_at_any_moment_doubles_and_loses_nothing(home, jobs):
    began = time.monotonic()
    keeper_process(home, "files").wait()
    usual = time.monotonic() - began  # to start and find nothing
    draw, kills, submitted = random.Random(0), 0, []
    while kills < 12 or any(job.state != "done" for job in jobs.list()):
        if kills < 12 and not jobs.list(states=("queued",)):
            commands = [("note", f"n{len(submitted)}.{number}", str(draw.uniform(0, 0.1))) for number in range(3)]
            submitted.append(jobs.submit(kind="x", title="", owner="", folder="", commands=commands))
        process = keeper_process(home, "files")
        try:
            process.wait(usual * draw.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
    names = [command[1] for job in submitted for command in job.commands]
    assert ledger(home) == [f"{what} {name}" for name in names for what in ("begin", "end")]


@pytest.mark.slow
def test_a_training_outlives_its_keepers_and_is_never_doubled(home, jobs):
    draw, kills = random.Random(1), 0
    submitted = [training(jobs, f"t{number}", 100, then=[("note", f"n{number}", "0")]) for number in range(4)]
    while any(job.state != "done" for job in jobs.list()):
        process = keeper_process(home, "train")
        try:
            process.wait(draw.uniform(0.1, 0.5))
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
    assert kills >= 5
    expected = []
    for number in range(len(submitted)):
        steps = [f"step t{number} {step}" for step in range(1, 101)]
        expected += [f"begin t{number}", *steps, f"end t{number}", f"begin n{number}", f"end n{number}"]
    assert ledger(home) == expected


@pytest.mark.slow
def test_when_the_machine_falls_over_trainings_go_on_from_what_was_saved(home, jobs):
    """Keeper and training are killed together, as by a power cut."""
    job = training(jobs, "a", 120)
    lane = LaneTable(jobs.table, "train")
    for step in (7, 30, 61, 100):
        process = keeper_process(home, "train")
        until(lambda step=step: f"step a {step}" in ledger(home))
        kill(process)
        processes.signal_group(lane.work(job.id).pid, signal.SIGKILL)
    keep(home, "train")
    assert jobs.get(job.id).state == "done"
    lines = ledger(home)
    assert "DOUBLED" not in lines
    assert lines[-1] == "end a"
    steps = [int(line.split()[2]) for line in lines if line.startswith("step")]
    assert sorted(set(steps)) == list(range(1, 121))
    again = [(before, after) for before, after in itertools.pairwise(steps) if after != before + 1]
    assert all(before - 2 < after <= before for before, after in again)  # from the last even step on


def test_a_command_that_always_takes_the_machine_along_is_given_up(home, jobs):
    job = training(jobs, "a", 10**6)
    lane = LaneTable(jobs.table, "train")
    for launch in range(1, 5):
        process = keeper_process(home, "train")
        until(lambda launch=launch: lane.work(job.id).launches == launch and lane.work(job.id).pid)
        kill(process)
        processes.signal_group(lane.work(job.id).pid, signal.SIGKILL)
        (home / "runs" / "a" / "status.json").unlink(missing_ok=True)
    keep(home, "train")
    failed = jobs.get(job.id)
    assert failed.state == "failed"
    assert "again and again" in failed.error
    assert "memory" in failed.hint


def test_a_launch_that_nobody_took_is_taken_by_one_alone(home, jobs):
    """A keeper died after it launched a command, which comes late."""
    job = note(jobs, "a")
    lane = LaneTable(jobs.table, "files")
    running = lane.next()
    late = lane.launch(running, log_from=0, ours=False)
    token = lane.launch(running, log_from=0, ours=False)
    assert not take(jobs.table, job.id, late, pid=1, born="x")
    assert take(jobs.table, job.id, token, pid=2, born="y")
    assert not take(jobs.table, job.id, token, pid=3, born="z")
    assert lane.launch(running, log_from=0, ours=False) == ""


def test_another_process_with_the_same_number_is_not_taken_for_the_job(home, jobs):
    job = note(jobs, "a")
    lane = LaneTable(jobs.table, "files")
    running = lane.next()
    token = lane.launch(running, log_from=0, ours=False)
    take(jobs.table, job.id, token, pid=os.getpid(), born="another boot 1")
    keep(home, "files")
    assert (jobs.get(job.id).state, ledger(home)) == ("done", ["begin a", "end a"])


def test_a_clock_that_is_set_back_changes_nothing(home, jobs):
    """Who lives is told by process number and boot ticks; times are only shown."""
    jobs = Jobs(home / "jobs.db", keeper=KEEPER, clock=lambda: "1999-01-01T00:00:00.000Z")
    job = training(jobs, "a", 60)
    first = keeper_process(home, "train")
    until(lambda: "step a 3" in ledger(home))
    kill(first)
    keep(home, "train")
    assert jobs.get(job.id).state == "done"
    assert ledger(home) == ["begin a", *(f"step a {step}" for step in range(1, 61)), "end a"]


def test_a_server_that_is_killed_with_its_group_takes_nothing_along(home, jobs):
    job = training(jobs, "a", 40)
    code = (
        "import os, sys; from pathlib import Path; from webui.jobs import Jobs;"
        "Jobs(Path(sys.argv[1]), keeper=sys.argv[2:]).wake(); os.killpg(0, 9)"
    )
    server = subprocess.Popen([sys.executable, "-c", code, str(home / "jobs.db"), *KEEPER], start_new_session=True)
    assert server.wait() == -9
    until(lambda: jobs.get(job.id).state == "done")
    assert ledger(home) == ["begin a", *(f"step a {step}" for step in range(1, 41)), "end a"]


def test_waking_starts_one_keeper_however_often_it_is_called(home, jobs):
    note(jobs, "a", 0.2)
    for _ in range(5):
        jobs.wake()
    until(lambda: jobs.list()[0].state == "done")
    assert ledger(home) == ["begin a", "end a"]


def test_a_submission_is_never_forgotten_by_a_keeper_that_is_leaving(home, jobs):
    for number in range(12):
        job = note(jobs, f"n{number}")
        jobs.wake()
        until(lambda job=job: jobs.get(job.id).state == "done")
    assert len(ledger(home)) == 24


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    since = processes.born(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert since
    assert not processes.lives(process.pid, since)
    assert not processes.group_lives(process.pid, since)
    process.wait()


@pytest.mark.slow
def test_a_real_training_that_is_paused_and_loses_its_keeper_gives_the_bytes_of_one_left_alone(
    base, pictures, tmp_path, monkeypatch
):
    from datasets_tools.storage import write_text
    from lora_diffusion.settings import to_toml
    from lora_diffusion.training import loop
    from tests import tiny

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = Jobs(tmp_path / "home" / "jobs.db")
    run = tmp_path / "home" / "runs" / "a"
    plan = tiny.plan(base, pictures, run, "run.steps=200", "run.snapshot_every=50")
    write_text(tmp_path / "plan.toml", to_toml(plan))
    command = ("train", str(tmp_path / "plan.toml"), "--json")
    job = jobs.submit(kind="train", title="a", owner="ann", commands=[command], folder=run)
    jobs.wake()
    until(lambda: jobs.progress(jobs.get(job.id)).done >= 3, 120)
    jobs.pause(job.id)
    until(lambda: jobs.get(job.id).state == "paused", 60)
    saved = jobs.progress(jobs.get(job.id)).done
    assert 3 <= saved < 200
    jobs.resume(job.id)
    jobs.wake()
    until(lambda: jobs.progress(jobs.get(job.id)).done > saved, 120)
    os.kill(LaneTable(jobs.table, "train").keeper()[0], signal.SIGKILL)
    until(lambda: not processes.lives(*LaneTable(jobs.table, "train").keeper()))
    jobs.wake()
    done = until(lambda: (found := jobs.get(job.id)).state in ("done", "failed") and found, 240)
    assert (done.state, done.error, done.result["steps"]) == ("done", "", 200)
    assert jobs.loss_curve(done).steps[-1] == 200
    alone = loop.train(plan.model_copy(update={"run": plan.run.model_copy(update={"out": str(tmp_path / "alone")})}))
    assert (run / "adapter.safetensors").read_bytes() == alone.adapter.read_bytes()
