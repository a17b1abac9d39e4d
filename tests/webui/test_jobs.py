"""The queue: who is next, what may be asked of a job in each state, and how far it is."""

import json
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest

from webui.errors import NotFound, StudioError
from webui.job_progress import error_in, tail
from webui.jobs import Job, JobError, Jobs
from webui.lane import LaneTable


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path / "home" / "jobs.db")
    yield jobs
    jobs.close()


def submit(jobs, name="a", *, commands=(("check", "folder", "--json"),), **more):
    return jobs.submit(kind="check", title=name, owner=more.pop("owner", "ann"), commands=commands, folder="x", **more)


def train(jobs, name="a", commands=(("train", "plan.toml", "--json"),)):
    folder = jobs.home / "runs" / name
    return jobs.submit(kind="train", title=name, owner="ann", commands=commands, folder=folder, subject=name)


def begin(jobs, lane="files"):
    """Take the next job as a keeper does."""
    return LaneTable(jobs.table, lane).next()


def titles(found):
    return "".join(job.title for job in found)


def test_a_job_keeps_what_was_submitted(jobs, tmp_path):
    job = train(jobs, "a", [["train", "plan.toml"], ["export", Path("a.safetensors"), "--json"]])
    again = Jobs(tmp_path / "home" / "jobs.db").get(job.id)
    assert again == job
    assert (again.kind, again.title, again.owner, again.subject, again.state) == ("train", "a", "ann", "a", "queued")
    assert again.commands == (("train", "plan.toml"), ("export", "a.safetensors", "--json"))
    assert (again.lane, again.result, again.exit_code) == ("train", {}, None)
    assert again.created.endswith("Z")


def test_what_trains_goes_to_one_lane_and_the_rest_to_another(jobs):
    assert [train(jobs).lane, submit(jobs).lane, submit(jobs, lane="train").lane] == ["train", "files", "train"]
    with pytest.raises(JobError, match="no lane gpu"):
        submit(jobs, lane="gpu")


@pytest.mark.parametrize("commands", [[], [[]]])
def test_a_job_without_a_command_is_refused(jobs, commands):
    with pytest.raises(JobError, match="at least one command"):
        submit(jobs, commands=commands)


def test_a_list_shows_work_first_then_the_queue_then_what_ended_newest_first(jobs):
    times = iter(f"2030-01-01T00:00:0{number}.000Z" for number in range(9))
    for name in "abcde":
        submit(jobs, name)
    jobs._clock = lambda: next(times)
    by_name = {job.title: job for job in jobs.list()}
    assert begin(jobs).title == "a"
    jobs.stop(by_name["d"].id)
    jobs.stop(by_name["b"].id)
    jobs.move(by_name["e"].id, direction="up")
    assert titles(jobs.list()) == "aecbd"
    assert titles(jobs.list(states=("queued", "running"))) == "aec"
    assert titles(jobs.list(limit=2)) == "ae"


def test_a_list_of_one_owner_leaves_out_the_others(jobs):
    submit(jobs, "a", owner="ann")
    submit(jobs, "b", owner="bob")
    assert titles(jobs.list(owner="bob")) == "b"


@pytest.mark.parametrize(
    ("moved", "how", "then"),
    [
        ("c", {"direction": "up"}, "acbd"),
        ("a", {"direction": "up"}, "abcd"),
        ("a", {"direction": "down"}, "bacd"),
        ("d", {"direction": "down"}, "abcd"),
        ("d", {"before": "a"}, "dabc"),
        ("a", {"before": "d"}, "bcad"),
        ("a", {"before": "a"}, "abcd"),
    ],
)
def test_queued_jobs_change_places_within_their_lane(jobs, moved, how, then):
    other = train(jobs, "t")
    ids = {name: submit(jobs, name).id for name in "abcd"}
    place = {key: ids.get(value, value) for key, value in how.items()}
    if place.get("before") == ids[moved]:
        with pytest.raises(JobError, match="itself"):
            jobs.move(ids[moved], **place)
    else:
        jobs.move(ids[moved], **place)
    assert titles(job for job in jobs.list() if job.lane == "files") == then
    assert jobs.get(other.id) == other


def test_only_queued_jobs_of_one_lane_change_places(jobs):
    running, queued, elsewhere = submit(jobs, "a"), submit(jobs, "b"), train(jobs, "c")
    begin(jobs)
    for id, other in ((running.id, queued.id), (queued.id, running.id), (queued.id, elsewhere.id)):
        with pytest.raises(JobError, match="only queued jobs of one lane"):
            jobs.move(id, before=other)
    with pytest.raises(JobError, match="up or down"):
        jobs.move(queued.id)


def test_a_queued_job_is_held_back_and_let_go(jobs):
    job = submit(jobs)
    assert jobs.pause(job.id).state == "paused"
    assert begin(jobs) is None
    assert jobs.resume(job.id).state == "queued"
    assert begin(jobs).id == job.id


def test_a_training_in_work_is_asked_to_pause_and_other_work_is_not(jobs):
    training, check = train(jobs), submit(jobs)
    begin(jobs, "train")
    begin(jobs)
    assert jobs.pause(training.id).state == "pausing"
    with pytest.raises(JobError, match="running and cannot be paused") as caught:
        jobs.pause(check.id)
    assert "stop it" in caught.value.hint
    assert jobs.stop(check.id).state == "stopping"


def test_asking_twice_is_asking_once(jobs):
    job = train(jobs)
    assert jobs.resume(job.id).state == "queued"
    begin(jobs, "train")
    assert [jobs.pause(job.id).state, jobs.pause(job.id).state] == ["pausing"] * 2
    assert [jobs.stop(job.id).state, jobs.stop(job.id).state] == ["stopping"] * 2


def test_a_stopped_job_that_is_no_training_is_tried_again_not_resumed(jobs):
    job = submit(jobs)
    jobs.stop(job.id)
    with pytest.raises(JobError, match="cannot be resumed") as caught:
        jobs.resume(job.id)
    assert caught.value.hint == "try it again"
    again = jobs.retry(job.id)
    assert (again.state, again.ended, again.error) == ("queued", "", "")


def test_a_failed_training_is_resumed_at_the_end_of_the_queue(jobs):
    job, other = train(jobs, "a"), train(jobs, "b")
    begin(jobs, "train")
    LaneTable(jobs.table, "train").end(job, "failed", code=3, error="no", hint="so")
    assert (jobs.get(job.id).error, jobs.get(job.id).hint, jobs.get(job.id).exit_code) == ("no", "so", 3)
    assert jobs.resume(job.id).exit_code is None
    assert [found.id for found in jobs.list(states=("queued",))] == [other.id, job.id]


def test_what_is_done_is_not_done_again(jobs):
    job = submit(jobs)
    begin(jobs)
    LaneTable(jobs.table, "files").next_command(job, {}, 0)
    for ask in (jobs.retry, jobs.resume, jobs.pause, jobs.stop):
        with pytest.raises(JobError, match="a is done"):
            ask(job.id)


def test_only_ended_jobs_are_removed_with_what_they_said(jobs):
    job = submit(jobs)
    jobs.folder(job.id).mkdir(parents=True)
    with pytest.raises(JobError, match="a is queued"):
        jobs.remove(job.id)
    jobs.stop(job.id)
    jobs.remove(job.id)
    assert not jobs.folder(job.id).exists()
    with pytest.raises(NotFound, match="there is no job") as caught:
        jobs.get(job.id)
    assert caught.value.hint


def test_pruning_keeps_the_newest_and_all_that_may_run(jobs):
    queued = submit(jobs, "q")
    for name in "abc":
        jobs.stop(submit(jobs, name).id)
    assert jobs.prune(keep=1) == 2
    assert titles(jobs.list()) == "qc"
    assert jobs.get(queued.id).state == "queued"


def test_lists_of_a_thousand_jobs_are_quick(jobs):
    result = json.dumps([{"findings": ["x" * 1000] * 100}])
    with jobs.table.change() as db:
        job = ("check", "title", "ann", "files", "x", "", "done", 0, "2030", '[["check"]]', result)
        for number in range(1000):
            db.execute(
                "INSERT INTO jobs (id, kind, title, owner, lane, folder, subject, state, position, created, commands,"
                " results) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (f"{number}", *job),
            )
    began = time.perf_counter()
    assert len(jobs.list()) == 1000
    assert time.perf_counter() - began < 0.5  # 36 ms beside nine busy processes on 2 cores; 100 MB of results lie by


def test_many_threads_submit_at_once_and_every_job_gets_its_place(jobs):
    def work():
        for _ in range(5):
            submit(jobs)
        jobs.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.position for job in jobs.list()) == list(range(1, 31))


def test_many_open_a_new_queue_at_once(tmp_path):
    failed = []

    def work():
        try:
            submit(Jobs(tmp_path / "jobs.db"))
        except Exception as error:  # noqa: BLE001 - every error of a thread counts
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(Jobs(tmp_path / "jobs.db").list()) == 8


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    Jobs(tmp_path / "jobs.db").close()
    with sqlite3.connect(tmp_path / "jobs.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StudioError, match="later version"):
        Jobs(tmp_path / "jobs.db")


def test_waking_runs_the_real_command_line(jobs):
    """Without torch: looking at a folder that is not there is refused before anything is loaded."""
    job = submit(jobs, commands=[["caption", "list", "/no/such/folder", "--json"]])
    jobs.wake()
    late = time.monotonic() + 60
    while jobs.get(job.id).state not in ("done", "failed") and time.monotonic() < late:
        pass
    failed = jobs.get(job.id)
    assert (failed.state, failed.exit_code) == ("failed", 2)
    assert failed.error
    assert jobs.log(failed)


def run_of(jobs, job, steps, *, of=None, seconds=0.5):
    """Write what a training leaves after so many steps."""
    run = Path(job.folder)
    (run / "previews").mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"status": "running", "step": 0, "steps": of or steps}))
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            file.write(
                json.dumps({"step": step, "loss": 1 / step, "norm": 0.5, "lr": 0.0001, "seconds": seconds}) + "\n"
            )
            if step % 1000 == 0:
                file.write(json.dumps({"step": step, "validation_loss": 2 / step}) + "\n")
    return run


def test_a_waiting_job_has_no_progress(jobs):
    job = train(jobs)
    assert (jobs.progress(job).done, jobs.progress(job).text) == (0, "queued")
    assert jobs.loss_curve(job).steps == ()
    assert jobs.previews(job) == []


def test_the_progress_of_a_training_is_its_last_step(jobs):
    job = train(jobs)
    run = run_of(jobs, job, 1500, of=2000)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1501, "lo')  # a reader may come in the middle of a line
    found = jobs.progress(begin(jobs, "train"))
    assert (found.done, found.total, found.text, found.seconds_left) == (1500, 2000, "training", 250.0)
    assert found.loss == pytest.approx(1 / 1500)


def test_before_its_first_step_a_training_tells_what_it_prepares(jobs):
    job = train(jobs)
    begin(jobs, "train")
    jobs.folder(job.id).mkdir(parents=True)
    (jobs.folder(job.id) / "log-0.txt").write_text(
        "train: looking at pictures, 5 of 5\ntrain: encoding pictures, 3 of 10, 1:15 left\nwarning: dark\n"
    )
    found = jobs.progress(jobs.get(job.id))
    assert (found.done, found.total, found.text, found.seconds_left) == (3, 10, "encoding pictures", 75.0)


def test_the_command_after_a_training_tells_its_own_progress(jobs):
    job = train(jobs, commands=[["train", "plan.toml"], ["evaluate", "x"]])
    run_of(jobs, job, 10)
    begin(jobs, "train")
    LaneTable(jobs.table, "train").next_command(job, {}, 0)
    jobs.folder(job.id).mkdir(parents=True)
    (jobs.folder(job.id) / "log-1.txt").write_text("evaluate: drawing, 2 of 8\n")
    found = jobs.progress(jobs.get(job.id))
    assert (found.done, found.total, found.text, found.command, found.commands) == (2, 8, "drawing", 1, 2)


def test_a_short_curve_has_every_step_and_a_mean_that_is_right_from_the_start(jobs):
    job = train(jobs)
    run_of(jobs, job, 300)
    curve = jobs.loss_curve(job)
    assert curve.steps == tuple(range(1, 301))
    assert curve.loss == tuple(1 / step for step in range(1, 301))
    assert curve.smoothed[0] == pytest.approx(1.0)
    assert curve.smoothed[1] == pytest.approx((0.9 * 0.1 * 1 + 0.1 * 0.5) / 0.19)


def test_a_curve_of_a_hundred_thousand_steps_is_quick_and_spans_them_all(jobs):
    job = train(jobs)
    run_of(jobs, job, 100_000)
    began = time.perf_counter()
    curve = jobs.loss_curve(job, points=200)
    jobs.progress(job)
    assert time.perf_counter() - began < 1.0  # a million steps: 0.24 s and 2 ms, beside nine busy processes on 2 cores
    assert len(curve.steps) == 200
    assert curve.steps[0] < 20
    assert curve.steps[-1] == 100_000
    assert list(curve.steps) == sorted(set(curve.steps))
    points = list(zip(curve.steps, curve.loss, strict=True))[1:]  # the first is the mean of the wild first steps
    assert all(loss == pytest.approx(1 / step, rel=0.1) for step, loss in points)
    assert len(curve.validation) == 100
    assert curve.validation[-1] == (100_000, 2 / 100_000)


def test_previews_come_in_the_order_of_their_steps(jobs):
    job = train(jobs)
    run = run_of(jobs, job, 1)
    for name in ("step-00000010-0.png", "step-00000002-1.png", "step-00000002-0.png", ".part-1.png"):
        (run / "previews" / name).touch()
    assert [(step, path.name) for step, path in jobs.previews(job)] == [
        (2, "step-00000002-0.png"),
        (2, "step-00000002-1.png"),
        (10, "step-00000010-0.png"),
    ]


def test_a_resumed_run_is_looked_for_where_it_lies(jobs, tmp_path):
    run = tmp_path / "elsewhere"
    job = train(jobs, commands=[["train", "--resume", str(run), "--json"]])
    (run / "previews").mkdir(parents=True)
    (run / "previews" / "step-00000001-0.png").touch()
    assert jobs.previews(job)[0][1].parent == run / "previews"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("error: it is broken", ("it is broken", "")),
        ("error: it is broken (mend it)", ("it is broken", "mend it")),
        ("error: it (the file) is broken (mend it (now))", ("it (the file) is broken", "mend it (now)")),
        ("error: f(x) is broken", ("f(x) is broken", "")),
        ("error: x)", ("x)", "")),
        ("Error: No such option: --x", ("No such option: --x", "")),
        ("nothing of the kind", ("", "")),
    ],
)
def test_an_error_line_is_told_from_its_remedy(tmp_path, line, found):
    log = tmp_path / "log"
    log.write_text(f"error: an older one\n{line}\nbye\n")
    assert error_in(log, start=len("error: an older one\n")) == found


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert tail(log, 20).splitlines() == ["line 998", "line 999"]
    assert tail(tmp_path / "none") == ""


def test_the_queue_needs_no_torch():
    import subprocess

    code = "import sys, webui.keeper, webui.jobs, webui.shim; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "gradio", "fastapi", "pydantic"} & set(loaded)


def test_a_job_is_a_value(jobs):
    job = submit(jobs)
    with pytest.raises(AttributeError):
        job.state = "done"
    assert isinstance(job, Job)
