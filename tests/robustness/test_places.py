"""The verbs in places that programs stumble over: they work, or fail with one sentence and leave nothing half done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from datasets_tools.errors import DatasetError
from datasets_tools.storage import require_writable
from tests import tiny

# Runs commands of the command line one after the other in one process; says of each its exit code and outputs.
RUNNER = """
import contextlib, io, json, sys
from lora_diffusion.cli import run
results = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    results.append([code, out.getvalue(), err.getvalue()])
print("RESULTS" + json.dumps(results))
"""
# Makes each folder read-only for this process alone; the administrator is stopped by it too, unlike by chmod.
LOCK = 'for place in $LOCKED; do mount --bind "$place" "$place" && mount -o remount,ro,bind "$place" || exit 9; done'
SOURCE = Path(__file__).parents[2]
UNCOMMON = 'sp ace/ünï 日本 🎨/it\'s "q" [a]{b}%s,c=d/' + "l" * 200


def isolation() -> str:
    """Return "" where this system lets a test have mounts and a network of its own, otherwise why not."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return "this system has no unshare"
    asked = subprocess.run(["unshare", "-rmn", "true"], capture_output=True, text=True, check=False)
    return asked.stderr.strip() if asked.returncode else ""


WITHOUT_ISOLATION = isolation()
isolated = pytest.mark.skipif(bool(WITHOUT_ISOLATION), reason=WITHOUT_ISOLATION or "isolated")


def told(commands, *, cwd, locked=(), offline=False, environment=()):
    """Return (exit code, stdout, stderr) of each command, run where `locked` folders cannot be written."""
    runner = [sys.executable, "-c", RUNNER, json.dumps([[str(word) for word in command] for command in commands])]
    if locked or offline:
        shell = f'{LOCK}; cd . || exit 9; exec "$@"' if locked else 'exec "$@"'
        runner = ["unshare", "-rmn" if offline else "-rm", "sh", "-c", shell, "sh", *runner]
    kept = {name: value for name, value in os.environ.items() if name not in {"HOME", "XDG_CACHE_HOME"}}
    extra = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "LOCKED": " ".join(map(str, locked))}
    known = kept | {"HOME": str(cwd)} | extra | dict(environment)
    known = {name: value for name, value in known.items() if value is not None}
    done = subprocess.run(runner, cwd=cwd, capture_output=True, text=True, env=known, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(result) for result in json.loads(done.stdout.rpartition("RESULTS")[2])]


def snapshot(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def plan_of(path, base, pictures, out, **run):
    """Write a plan of two small steps."""
    settings = {"out": str(out), "steps": 2, "batch_size": 2, "precision": "no", "device": "cpu", "tensorboard": False}
    sections = {
        "base": {"path": str(base)},
        "data": {"folder": str(pictures)},
        "adapter": {"rank": 2},
        "run": settings | run,
    }
    path.write_text(tomli_w.dumps(sections), encoding="utf-8")
    return path


def one_sentence(result):
    """Say whether a command failed as promised: exit code 2 or 3, no output, and one line that is not a crash's.

    Nothing comes before that line, progress neither: nobody waited for a refusal.
    """
    code, out, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    crashed = "please report" in err or "Traceback" in err
    return code in {2, 3} and out == "" and errors == lines and len(lines) == 1 and not crashed


def test_every_verb_works_under_a_root_of_uncommon_signs_and_length(tmp_path, base):
    root = tmp_path / UNCOMMON
    root.mkdir(parents=True)
    pictures = tiny.pictures(root / "pictures", 3)
    moved = shutil.copytree(base, root / "base")
    before = snapshot(pictures)
    commands = [
        ["check", pictures, "--report", root / "page.html", "--json"],
        ["prepare", pictures, f"data.cache={root / 'cache'}", "--json"],
        ["caption", "list", pictures, "--json"],
        ["caption", "prepend", pictures, "a drawing of", "--apply", "--json"],
        ["caption", "undo", pictures, "--json"],
        ["train", plan_of(root / "plan.toml", moved, pictures, root / "out"), "--json"],
    ]
    results = told(commands, cwd=tmp_path)
    assert [code for code, _, _ in results] == [0] * 6, results
    checked, prepared, listed, _, _, trained = (json.loads(out) for _, out, _ in results)
    assert (checked["images"], prepared["images"], len(listed["captions"]), trained["steps"]) == (3, 3, 3, 2)
    assert Path(trained["adapter"]) == root / "out" / "adapter.safetensors"
    assert (root / "page.html").stat().st_size > 10_000
    (pictures / "manifest.jsonl").unlink()
    shutil.rmtree(pictures / ".captions")
    assert snapshot(pictures) == before
    assert {path.name for path in tmp_path.iterdir()} == {UNCOMMON.split("/")[0]}


@isolated
def test_read_only_pictures_are_checked_and_what_would_write_into_them_is_refused_at_once(tmp_path):
    pictures = tiny.pictures(tmp_path / "pictures", 3)
    before = snapshot(pictures)
    commands = [
        ["check", pictures, "--report", tmp_path / "page.html", "--json"],
        ["caption", "list", pictures, "--json"],
        ["caption", "prepend", pictures, "a drawing of", "--json"],
        ["caption", "prepend", pictures, "a drawing of", "--apply", "--json"],
        ["caption", "exclude", pictures, "00.png", "--json"],
        ["caption", "fill", pictures, "palette", "--overwrite", "--json"],
        ["caption", "undo", pictures, "--json"],
        ["prepare", pictures, f"data.cache={tmp_path / 'cache'}", "--json"],
    ]
    results = told(commands, cwd=tmp_path, locked=[pictures])
    assert [code for code, _, _ in results[:3]] == [0, 0, 0], results[:3]
    assert [result for result in results[3:] if not one_sentence(result)] == []
    assert snapshot(pictures) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"pictures", "page.html", "cache"}


@isolated
def test_a_page_that_cannot_be_written_is_said_before_the_check(tmp_path):
    pictures, closed = tiny.pictures(tmp_path / "pictures", 3), tmp_path / "closed"
    closed.mkdir()
    command = ["check", pictures, "--report", closed / "page.html", "--json"]
    (result,) = told([command], cwd=tmp_path, locked=[closed])
    assert one_sentence(result), result
    assert list(closed.iterdir()) == []


@isolated
def test_a_run_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, base):
    pictures, closed = tiny.pictures(tmp_path / "pictures", 3), tmp_path / "closed"
    closed.mkdir()
    plan = plan_of(tmp_path / "plan.toml", base, pictures, "out")
    trained, checked = told(
        [["train", plan, "--json"], ["check", plan, "--no-probe", "--json"]], cwd=closed, locked=[closed]
    )
    assert one_sentence(trained), trained
    refused = [one["reason"] for one in json.loads(checked[1])["findings"] if one["code"] == "plan-refused"]
    assert (checked[0], len(refused)) == (1, 1), checked
    assert "cannot be written" in refused[0]
    assert list(closed.iterdir()) == []


@isolated
def test_nothing_but_the_places_that_were_named_is_needed(tmp_path, base):
    """No network, no home folder, and neither the working folder nor the pictures of a training can be written."""
    pictures, closed = tiny.pictures(tmp_path / "pictures", 3), tmp_path / "closed"
    read_only = tiny.pictures(closed / "pictures", 3)
    before = snapshot(closed)
    plan = plan_of(tmp_path / "plan.toml", base, read_only, tmp_path / "out")
    hub = plan_of(tmp_path / "hub.toml", "somebody/some-model", read_only, tmp_path / "hub")
    commands = [
        ["check", pictures, "--json"],
        ["prepare", pictures, f"data.cache={tmp_path / 'cache'}", "--json"],
        ["caption", "prepend", pictures, "a drawing of", "--apply", "--json"],
        ["caption", "undo", pictures, "--json"],
        ["train", plan, "--json"],
        ["train", hub, "--json"],
    ]
    *results, unreachable = told(commands, cwd=closed, locked=[closed], offline=True, environment={"HOME": None})
    assert [code for code, _, _ in results] == [0] * 5, results
    assert one_sentence(unreachable), unreachable
    assert "somebody/some-model" in unreachable[2]
    assert snapshot(closed) == before
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        "pictures", "closed", "plan.toml", "hub.toml", "cache", "out",
    }  # fmt: skip


@isolated
def test_a_closed_cache_is_told_and_the_manifest_is_written_all_the_same(tmp_path):
    pictures, closed = tiny.pictures(tmp_path / "pictures", 3), tmp_path / "closed"
    closed.mkdir()
    (result,) = told([["prepare", pictures, f"data.cache={closed}", "--json"]], cwd=tmp_path, locked=[closed])
    assert result[0] == 0, result
    assert json.loads(result[1])["images"] == 3
    assert (pictures / "manifest.jsonl").is_file()


def test_asking_whether_a_file_can_be_written_leaves_no_trace(tmp_path):
    require_writable(tmp_path / "new" / "deep" / "manifest.jsonl")
    (tmp_path / "old.jsonl").write_text("old")
    require_writable(tmp_path / "old.jsonl")
    assert snapshot(tmp_path) == {Path("old.jsonl"): b"old"}
    assert len(list(tmp_path.iterdir())) == 1


@isolated
@pytest.mark.parametrize("place", ["page.html", "new/page.html", "new/deep/page.html"])
def test_a_place_in_a_folder_that_is_still_to_be_made_in_a_closed_one_cannot_be_written(tmp_path, place):
    pictures, closed = tiny.pictures(tmp_path / "pictures", 1), tmp_path / "closed"
    closed.mkdir()
    commands = [["check", pictures, "--report", report] for report in (place, closed / place)]
    for result in told(commands, cwd=closed, locked=[closed]):
        assert one_sentence(result), result
        assert "cannot be written" in result[2]


@pytest.mark.skipif(sys.platform == "win32", reason="names are not measured in bytes there")
@pytest.mark.parametrize("out", ["x" * 300, f"{'x' * 300}/out"])
def test_a_run_folder_of_a_name_too_long_is_refused_before_any_work(tmp_path, base, out):
    plan = plan_of(tmp_path / "plan.toml", base, tiny.pictures(tmp_path / "pictures", 2), tmp_path / out)
    before = snapshot(tmp_path)
    trained, checked = told([["train", plan, "--json"], ["check", plan, "--no-probe", "--json"]], cwd=tmp_path)
    assert one_sentence(trained), trained
    refused = [one["reason"] for one in json.loads(checked[1])["findings"] if one["code"] == "plan-refused"]
    assert ["cannot be written" in reason for reason in refused] == [True], checked
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("taken", ["folder", "file/manifest.jsonl", "file/deep/manifest.jsonl"])
def test_a_place_that_is_taken_cannot_be_written(tmp_path, taken):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="cannot be written") as refused:
        require_writable(tmp_path / taken)
    assert "choose another path" in refused.value.hint
