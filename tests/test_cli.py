"""The command line is a contract: one JSON object on stdout, one clear line per error, exit codes 0 to 3."""

import json
import subprocess
import sys
import time

import pytest

from lora_diffusion.cli import run
from tests import tiny


def call(capsys, *arguments):
    """Run a command in this process; return (exit code, stdout, stderr)."""
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys, *arguments, code=0):
    found, out, err = call(capsys, *arguments, "--json")
    assert found == code, err
    return json.loads(out)


@pytest.fixture(scope="module")
def plan(base, pictures, tmp_path_factory):
    """A plan file of three steps."""
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(
        f'[base]\npath = "{base}"\n[data]\nfolder = "{pictures}"\n[adapter]\nrank = 4\n[optim]\nlr = 0.05\n'
        '[run]\nsteps = 3\nbatch_size = 4\nprecision = "no"\ndevice = "cpu"\n'
    )
    return path


@pytest.fixture(scope="module")
def adapter(plan, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    assert run(["train", str(plan), f"run.out={out}", "--json"]) == 0
    return out / "adapter.safetensors"


def test_help_answers_within_half_a_second():
    command = [sys.executable, "-m", "lora_diffusion", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5
    verbs = ("demo", "check", "prepare", "train", "generate", "blend", "merge", "export", "inspect")
    assert all(verb in text for verb in verbs)


def test_train_and_resume(capsys, plan, tmp_path):
    done = answer(capsys, "train", plan, f"run.out={tmp_path / 'out'}")
    assert (done["status"], done["steps"]) == ("finished", 3)
    assert done["adapter"] == str(tmp_path / "out" / "adapter.safetensors")
    assert done["seconds_per_step"] > 0
    before = (tmp_path / "out" / "adapter.safetensors").read_bytes()
    assert answer(capsys, "train", "--resume", tmp_path / "out")["adapter"] == done["adapter"]
    assert (tmp_path / "out" / "adapter.safetensors").read_bytes() == before


def test_finish_makes_the_adapter_of_what_is_saved(capsys, plan, tmp_path):
    answer(capsys, "train", plan, f"run.out={tmp_path / 'out'}")
    (tmp_path / "out" / "adapter.safetensors").unlink()
    done = answer(capsys, "train", "--resume", tmp_path / "out", "--finish")
    assert (done["status"], done["kept"]) == ("finished", 3)
    assert (tmp_path / "out" / "adapter.safetensors").is_file()
    assert run(["train", str(plan), "--finish"]) == 2


def test_generate_with_weights_of_any_sign(capsys, base, adapter, tmp_path):
    weights = ["--adapter", f"{adapter}:0.8", "--adapter", f"{adapter}:-0.3"]
    settings = ["--base", base, "--prompt", "a star", "--steps", "2", "--seed", "1", "--precision", "no"]
    done = answer(capsys, "generate", *settings, *weights, "--count", "2", "--out", tmp_path / "g.png")
    assert done["images"] == [str(tmp_path / "g-0.png"), str(tmp_path / "g-1.png")]
    assert (tmp_path / "g-0.png").stat().st_size > 1000


def test_blend_merge_export_inspect(capsys, base, adapter, tmp_path):
    blend = answer(capsys, "blend", f"{adapter}:0.7", f"{adapter}:-0.3", "--out", tmp_path / "b.safetensors")
    assert blend["report"]["total"] < 1e-6
    for dialect in ("kohya", "diffusers", "peft"):
        done = answer(capsys, "export", adapter, tmp_path / f"{dialect}.safetensors", "--dialect", dialect)
        assert len(done["sha256"]) == 64
        found = answer(capsys, "inspect", done["path"])
        assert (found["dialect"], found["family"], found["anomalies"]) == (dialect, "sd1", [])
        assert found["modules"] == {"denoiser": 32}
    single = answer(capsys, "merge", "--base", base, "--adapter", f"{adapter}:0.8", "--out", tmp_path / "m.safetensors")
    folder = answer(capsys, "merge", "--base", base, "--adapter", f"{adapter}:0.8", "--out", tmp_path / "m")
    assert (tmp_path / "m" / "model_index.json").is_file()
    assert {"total", "layers"} <= single["report"].keys() & folder["report"].keys()


def test_check_finds_what_blocks_and_prepare_goes_on_without_it(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    (folder / "bad.png").write_bytes(b"<html>")
    found = answer(capsys, "check", folder, "--report", tmp_path / "r.html", code=1)
    assert [each["file"] for each in found["findings"] if each["severity"] == "blocks"] == ["bad.png"]
    assert found["images"] == 3
    assert {"width", "height", "count"} <= found["buckets"][0].keys()
    assert "bad.png" in (tmp_path / "r.html").read_text()
    done = answer(capsys, "prepare", folder, "trigger=zyx", f"cache={tmp_path / 'cache'}")
    assert (done["images"], done["changed"], done["quarantined"][0]["file"]) == (3, 4, "bad.png")
    assert len((folder / "manifest.jsonl").read_text().splitlines()) == 3


def test_check_of_a_folder_takes_the_settings_of_a_plans_data(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    assert "trigger-none" in {each["code"] for each in answer(capsys, "check", folder)["findings"]}
    found = answer(capsys, "check", folder, "trigger=brndx", "rights=require", "resolution=128", code=1)
    assert "trigger-none" not in {each["code"] for each in found["findings"]}
    assert {each["severity"] for each in found["findings"] if each["code"] == "rights-missing"} == {"blocks"}
    assert all(row["width"] * row["height"] < 200**2 for row in found["buckets"])


def test_checking_and_preparing_a_folder_load_no_torch(tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lora_diffusion.cli import run\n"
        "sys.exit(run(['check', sys.argv[1], '--report', 'r.html']) or run(['prepare', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_check_of_a_plan_looks_at_the_base_and_the_settings(capsys, plan):
    assert answer(capsys, "check", plan, "--no-probe")["images"] == 6
    found = answer(capsys, "check", plan, "base.path=/no/model", "optim.lr=5", code=1)
    assert {"base-missing", "rate-odd"} <= {each["code"] for each in found["findings"]}


def test_check_of_a_plan_measures_what_it_takes(capsys, plan, tmp_path):
    wanted = ["run.steps=500", "run.keep_snapshots=2", f"run.out={tmp_path / 'out'}"]
    estimate = answer(capsys, "check", plan, *wanted)["estimate"]
    assert estimate["seconds"] > 100 * estimate["seconds_per_step"] > 0
    assert 50e6 < estimate["peak_bytes"] < 8e9
    assert estimate["snapshot_bytes"] > 0 < estimate["cache_bytes"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("data.repeats={nothing=2}", "nothing"),
        ("data.masks=/no/masks", "/no/masks"),
        ("data.regularisation=/no/pictures", "/no/pictures"),
        ("data.bucket_step=7", "bucket_step"),
    ],
)
def test_check_of_a_plan_finds_settings_that_do_not_fit_the_pictures(capsys, plan, setting, word):
    found = answer(capsys, "check", plan, "--no-probe", setting, code=1)
    assert word in " ".join(each["reason"] for each in found["findings"] if each["code"] == "plan-refused")


def test_check_of_a_plan_finds_what_only_a_step_shows(capsys, plan):
    found = answer(capsys, "check", plan, "adapter.targets=[nothing.like.that]", code=1)
    (finding,) = [each for each in found["findings"] if each["severity"] == "blocks"]
    assert finding["code"] == "probe-failed"
    assert "nothing.like.that" in finding["reason"]


def test_prepare_with_a_base_model_encodes_what_training_then_finds(capsys, plan, base, pictures, tmp_path):
    import shutil

    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    cache = f"data.cache={tmp_path / 'cache'}"
    wanted = [f"base.path={base}", "run.precision=no", cache]
    first = answer(capsys, "prepare", folder, *wanted)
    again = answer(capsys, "prepare", folder, *wanted)
    assert first["encoded"] > first["images"] == first["changed"] == 6
    assert (again["encoded"], again["changed"]) == (0, 0)


def test_prepare_captions_what_has_no_caption_so_that_training_reads_it(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    for path in folder.glob("*.txt"):
        path.unlink()
    answer(capsys, "prepare", folder, f"cache={tmp_path / 'cache'}", "--captioner", "palette")
    assert all(row["caption"] for row in answer(capsys, "caption", "list", folder)["captions"])
    answer(capsys, "caption", "undo", folder)
    assert not any(row["caption"] for row in answer(capsys, "caption", "list", folder)["captions"])


def test_captions_are_shown_edited_and_taken_back(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    before = {path.name: path.read_bytes() for path in folder.glob("*.txt")}
    shown = answer(capsys, "caption", "prepend", folder, "a drawing of")
    assert (shown["applied"], len(shown["changed"])) == (False, 3)
    assert {path.name: path.read_bytes() for path in folder.glob("*.txt")} == before
    answer(capsys, "caption", "prepend", folder, "a drawing of", "--apply")
    rows = answer(capsys, "caption", "list", folder)["captions"]
    assert all(row["caption"].startswith("a drawing of") for row in rows)
    assert len(answer(capsys, "caption", "history", folder)["history"]) == 1
    answer(capsys, "caption", "undo", folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.txt")} == before


def test_pictures_are_excluded_and_taken_in_again(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    name = sorted(path.name for path in folder.glob("*.png"))[0]
    answer(capsys, "caption", "exclude", folder, name)
    assert answer(capsys, "check", folder)["images"] == 2
    answer(capsys, "caption", "include", folder, name)
    assert answer(capsys, "check", folder)["images"] == 3


def test_a_captioner_fills_what_is_missing(capsys, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 3)
    for path in folder.glob("*.txt"):
        path.unlink()
    done = answer(capsys, "caption", "fill", folder, "palette")
    assert len(done["changed"]) == 3
    assert all(row["caption"] for row in answer(capsys, "caption", "list", folder)["captions"])


def test_check_refuses_what_train_would_refuse(capsys, plan, adapter):
    wrong = ["adapter.method=dora", "run.device=cpu", "run.precision=fp16", "data.bucket_step=7"]
    found = answer(capsys, "check", plan, *wrong, f"run.out={adapter.parent}", code=1)
    reasons = " ".join(each["reason"] for each in found["findings"] if each["code"] == "plan-refused")
    assert all(word in reasons for word in ("dora", "fp16", "bucket_step", "already holds a run"))


def test_a_plan_with_a_byte_order_mark_reads(capsys, plan, tmp_path):
    marked = tmp_path / "marked.toml"
    marked.write_text(plan.read_text(), "utf-8-sig")
    assert answer(capsys, "check", marked)["images"] == 6


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["check", "FOLDER", "foo.bar=3"], 2, "foo"),
        (["prepare", "FOLDER", "resolutoin=5"], 2, "resolution"),
        (["blend", "ADAPTER:0.5", "ADAPTER:0.5", "--out", "ADAPTER"], 2, "part of what is read"),
        (["generate", "--base", "BASE", "--prompt", "x", "--out", "OUT.jpg"], 2, ".png"),
        (["generate", "--base", "BASE", "--prompt", "x", "--precision", "fp8", "--out", "OUT.png"], 2, "fp8"),
        (["train", "PLAN", "adapter.rnk=4", "run.out=OUT"], 2, "adapter.rank"),
        (["train", "PLAN", "base.path=/no/model", "run.out=OUT"], 2, "/no/model"),
        (["train", "PLAN", "data.folder=/no/folder", "run.out=OUT"], 2, "/no/folder"),
        (["train", "PLAN", "adapter.rank=x", "run.out=OUT"], 2, "adapter.rank"),
        (["train", "NONE.toml"], 2, "NONE.toml"),
        (["train"], 2, "--resume"),
        (["train", "--resume", "OUT"], 2, "holds no run"),
        (["generate", "--base", "BASE", "--adapter", "NONE.safetensors", "--prompt", "x"], 2, "NONE.safetensors"),
        (["generate", "--base", "BASE", "--prompt", "x", "--steps", "0"], 2, "steps"),
        (["blend", "ADAPTER:0.5", "--out", "OUT.txt"], 2, "OUT.txt"),
        (["export", "ADAPTER", "ADAPTER"], 2, "part of what is read"),
        (["export", "ADAPTER", "OUT.safetensors", "--dialect", "konya"], 2, "kohya"),
        (["merge", "--base", "/no/model", "--adapter", "ADAPTER", "--out", "OUT"], 2, "/no/model"),
        (["inspect", "NONE.safetensors"], 2, "NONE.safetensors"),
        (["inspect", "JUNK"], 3, "JUNK"),
        (["check", "/no/folder"], 2, "/no/folder"),
        (["no-such-verb"], 2, "no-such-verb"),
    ],
)
def test_an_error_is_one_clear_line_and_writes_nothing(
    capsys, plan, base, pictures, adapter, tmp_path, arguments, code, says
):
    junk = tmp_path / "JUNK"
    junk.write_bytes(b"\x80\x04junk" * 50)
    names = {"FOLDER": pictures, "PLAN": plan, "BASE": base, "ADAPTER": adapter, "OUT": tmp_path / "OUT", "JUNK": junk}
    filled = []
    for argument in arguments:
        for name, path in names.items():
            argument = argument.replace(name, str(path)) if argument.startswith((name, "run.out=")) else argument
        filled.append(argument)
    found, out, err = call(capsys, *filled, "--json")
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["JUNK"]
