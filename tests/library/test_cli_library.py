"""The library on the command line, and its references wherever an adapter is named."""

import json

import pytest
import torch

from datasets_tools.storage import sha256_file
from lora_diffusion.cli import run
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.dense import delta
from lora_diffusion.library import Library
from lora_diffusion.settings import to_toml
from tests import tiny
from tests.library import made
from tests.library.made import IMAGES


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LORA_DIFFUSION_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def tell(capsys):
    def answered(*words, code=0):
        found = run([*map(str, words), "--json"])
        out, err = capsys.readouterr()
        assert found == code, err
        return json.loads(out) if out else err

    return answered


def deltas(adapter):
    return {name: delta(weights) for name, weights in adapter.modules.items()}


def test_a_life_of_an_adapter(tell, files, drawn, tmp_path):
    added = tell(
        "library", "add", files[0], "--name", "Ink", "--tag", "wet", "--weights", "0.5", "1.2", "--sample", drawn[0],
        "--preset", "soft=0.5@no-text", "--by", "ann",
    )  # fmt: skip
    assert (added["ref"], added["by"], added["details"]["presets"]) == ("Ink@1", "ann", {"soft": "0.5@no-text"})
    assert tell("library", "describe", "ink", "--notes", "new", "--thumbnail", drawn[0])["details"]["weight_low"] == 0.5
    tell("library", "promote", "ink", "in_review")
    assert tell("library", "promote", "ink", "approved", "--by", "ben")["stage"] == "approved"
    assert tell("library", "add", files[1], "--name", "ink")["ref"] == "Ink@2"
    tell("library", "promote", "ink@2", "in_review")
    tell("library", "promote", "ink@2", "approved")
    assert tell("library", "rollback", "ink", "1", "--reason", "too loud")["current"]
    assert tell("library", "rename", "ink", "Wash")["name"] == "Wash"
    tell("library", "comment", "wash", "good")
    tell("library", "sample", "wash", drawn[1])
    shown = tell("library", "show", "wash")
    assert [each["seed"] for each in shown["samples"]] == [0, 1]
    assert [each["text"] for each in shown["comments"]] == ["good"]
    assert [each["ref"] for each in tell("library", "list", "--every")["versions"]] == ["Wash@2", "Wash@1"]
    differ = tell("library", "compare", "wash@1", "wash@2")["settings"]
    assert {"details.notes", "file.fingerprint"} <= {f"{each['section']}.{each['key']}" for each in differ}
    assert sha256_file(tell("library", "path", "wash")["path"]) == sha256_file(files[0])
    what = [each["what"] for each in tell("library", "history", "wash@1")["events"]]
    assert what == [
        "add sample",
        "comment",
        "rollback",
        "in_review to approved",
        "draft to in_review",
        "describe",
        "add",
    ]


def test_pictures_are_kept_with_what_they_were_drawn_with(tell, files, tmp_path):
    added = tell("library", "add", files[0], "--name", "Ink")
    file = made.picture(tmp_path / "fox.png", 3, adapters={"ink": 0.6}, fingerprints={"ink": added["fingerprint"]})
    kept = tell("library", "picture", file)
    assert kept["adapters"] == [["Ink@1", 0.6]]
    assert tell("library", "star", kept["id"])["starred"]
    assert tell("library", "judge", kept["id"], "off_brand", "--reason", "wrong red")["state"] == "off_brand"
    assert [each["id"] for each in tell("library", "pictures", "fox", "--starred")["pictures"]] == [kept["id"]]
    assert tell("library", "where-used", "ink")["pictures"][0]["id"] == kept["id"]


def test_a_withdrawn_picture_is_named_by_its_file_or_hash(tell, files, drawn):
    tell("library", "add", files[0], "--name", "Ink")
    assert tell("library", "withdraw", drawn[0], "--reason", "revoked")["sha256"] == sha256_file(drawn[0])
    tell("library", "withdraw", IMAGES[3], "--reason", "revoked")
    assert len(tell("library", "withdrawals")["withdrawals"]) == 2
    tell("library", "withdraw", IMAGES[4], code=2)
    tell("library", "reinstate", drawn[0], "--reason", "the wrong file")
    assert [each["sha256"] for each in tell("library", "withdrawals")["withdrawals"]] == [IMAGES[3]]


def test_verify_ends_with_1_on_a_fault(tell, files, home):
    tell("library", "add", files[0], "--name", "Ink")
    head = tell("library", "history")["head"]
    assert tell("library", "verify", "--head", head) == {"faults": []}
    assert tell("library", "verify", "--head", "0" * 64, code=1)["faults"][0]["code"] == "head"
    with Library.open(home) as library:
        path = library.path("ink")
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    assert tell("library", "verify", code=1)["faults"][0]["code"] == "object"


def test_packages_go_from_home_to_home(tell, files, tmp_path):
    tell("library", "add", files[0], "--name", "Ink")
    tell("library", "pack", "ink", tmp_path / "ink.zip")
    assert tell("library", "unpack", tmp_path / "ink.zip", "--home", tmp_path / "b", "--name", "X")["ref"] == "X@1"
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    tell("library", "unpack", tmp_path / "bad.zip", code=3)


def test_a_reference_stands_wherever_an_adapter_does(tell, files, tmp_path):
    for file, name in zip(files, ("Ink", "Paper"), strict=False):
        tell("library", "add", file, "--name", name)
    out = tmp_path / "both.safetensors"
    tell("blend", "ink:0.5", "Paper@1:-1@unet.down=2", "--out", out)
    one, two, both = (deltas(read_adapter(file)) for file in (files[0], files[1], out))
    for name, value in both.items():
        assert torch.allclose(value, 0.5 * one[name] + 2 * two[name], atol=1e-5)
    tell("library", "add", out, "--name", "Both")
    parents = tell("library", "show", "both")["lineage"]["parents"]
    assert sorted(parents) == [["Ink@1", 0.5], ["Paper@1", -1.0]]
    assert tell("inspect", "ink@1")["modules"] == {"denoiser": 1}
    tell("export", "ink", tmp_path / "exported.safetensors")
    exported = deltas(read_adapter(tmp_path / "exported.safetensors"))
    assert all(torch.allclose(value, one[name], rtol=1e-2, atol=1e-2) for name, value in exported.items())
    tell("resize", "both", "--rank", "1", "--out", tmp_path / "small.safetensors")
    assert tell("conflict", "ink", "paper")["blocks"]


def test_a_file_that_exists_wins_over_the_library(tell, files, tmp_path):
    tell("library", "add", files[0], "--name", "ink", "--notes", "in the library")
    made.adapter(tmp_path / "x.safetensors", 2, rank=2).rename(tmp_path / "ink")
    assert tell("inspect", "ink")["ranks"] == [2]
    assert tell("inspect", "ink@1")["ranks"] == [1]


def test_what_is_neither_file_nor_reference_is_answered_with_both_places(tell, files, home, capsys):
    refused = tell("inspect", "ink", code=2)
    assert "no file ink" in refused
    assert "no library in" in refused
    assert not home.exists()
    tell("library", "add", files[0], "--name", "Autumn")
    refused = tell("blend", "autum:0.5", "autumn:1", "--out", "x.safetensors", code=2)
    assert "no file autum" in refused
    assert str(home) in refused
    assert "did you mean Autumn?" in refused


def test_a_blocked_adapter_draws_with_a_warning(tell, capsys, files, tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "plan.toml").write_text("[run]\nsteps = 1\n")
    line = {"file": "a.png", "sha256": IMAGES[1], "bytes": 1, "width": 8, "height": 8}
    (run_folder / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    tell("library", "add", files[0], "--name", "Ink", "--run", run_folder)
    (touched,) = tell("library", "withdraw", IMAGES[1], "--reason", "revoked")["versions"]
    assert touched["ref"] == "Ink@1"
    run(["export", "ink", str(tmp_path / "x.safetensors")])
    assert "warning: Ink@1 is blocked: revoked" in capsys.readouterr().err


def test_no_training_begins_goes_on_or_is_finished_with_a_withdrawn_picture(tell, base, pictures, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(to_toml(tiny.plan(base, pictures, tmp_path / "run", "run.steps=1")))
    picture = pictures / "00.png"
    tell("library", "withdraw", picture, "--reason", "the artist asked")
    told = "error: 00.png may no longer be used: the artist asked (leave it out and train anew; what was saved stays)"
    assert told in tell("train", plan, code=2)
    assert not (tmp_path / "run").exists()
    assert tell("train", plan, "--home", tmp_path / "another")["status"] == "finished"
    assert told in tell("train", "--resume", tmp_path / "run", code=2)
    assert told in tell("train", "--resume", tmp_path / "run", "--finish", code=2)
    tell("library", "reinstate", picture, "--reason", "they agreed")
    assert tell("train", "--resume", tmp_path / "run", "--finish")["steps"] == 1


def test_shipped_adapters_are_seeded_or_there_are_none(tell):
    assert all(each["stage"] == "approved" for each in tell("library", "seed")["versions"])
    assert tell("library", "seed") == {"versions": []}
