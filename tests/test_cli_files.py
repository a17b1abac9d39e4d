"""The verbs on adapter files, as a person types them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lora_diffusion.cli import run
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.dense import delta
from tests import tiny


def answer(capsys, *arguments, code=0):
    found = run([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert found == code, err
    return json.loads(out)


@pytest.fixture(scope="module")
def styles(base, pictures, tmp_path_factory):
    """Two adapters, trained for two steps each with other seeds."""
    folder = tmp_path_factory.mktemp("styles")
    paths = []
    for seed in (1, 2):
        plan = tiny.plan(base, pictures, folder / f"run{seed}", "run.steps=2", "optim.lr=0.05", f"run.seed={seed}")
        from lora_diffusion.training.loop import train

        paths.append(train(plan).adapter)
    return paths


def width(path):
    with Image.open(path) as picture:
        return picture.width


def deltas(path):
    return {name: delta(weights) for name, weights in read_adapter(Path(path)).modules.items()}


def test_a_blend_takes_weights_per_block(capsys, styles, tmp_path):
    first, second = styles
    done = answer(
        capsys, "blend", f"{first}:0.5@unet.up=2", f"{second}:-1@unet.mid=0", "--out", tmp_path / "b.safetensors"
    )
    assert done["report"]["total"] < 1e-6
    blended, one, other = deltas(done["path"]), deltas(first), deltas(second)
    for name, value in blended.items():
        weights = (2.0 if ".up_blocks." in name else 0.5), (0.0 if ".mid_block." in name else -1.0)
        assert torch.allclose(value, weights[0] * one[name] + weights[1] * other[name], atol=1e-6), name


@pytest.mark.parametrize("method", ["ties", "dare", "magnitude"])
def test_other_methods_say_how_far_they_are_from_the_sum(capsys, styles, tmp_path, method):
    out = tmp_path / "b.safetensors"
    extra = ["--seed", "3"] if method == "dare" else []
    done = answer(capsys, "blend", *styles, "--method", method, "--density", "0.5", *extra, "--out", out)
    assert done["report"]["total"] > 0.01
    again = answer(
        capsys, "blend", *styles, "--method", method, "--density", "0.5", *extra, "--out", out, "--overwrite"
    )
    assert again["sha256"] == done["sha256"]


def test_nothing_is_replaced_unless_asked(capsys, base, styles, tmp_path):
    out = tmp_path / "kept.safetensors"
    out.write_bytes(b"mine")
    for words in (
        ["blend", *styles, "--out", out],
        ["merge", "--base", base, "--adapter", styles[0], "--out", out],
        ["export", styles[0], out],
        ["resize", styles[0], "--rank", "1", "--out", out],
        ["inspect", styles[0], "--fix", out],
    ):
        assert run([*map(str, words)]) == 2
        assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


def test_one_adapter_is_kept_untouched_by_the_other(capsys, styles, tmp_path):
    first, second = styles
    out = tmp_path / "b.safetensors"
    done = answer(capsys, "blend", first, second, "--orthogonal-to", first, "--out", out)
    for name, value in deltas(done["path"]).items():
        one = deltas(first)[name]
        rest = value - one
        assert abs(float((rest * one).sum())) <= 1e-5 * float(one.norm()) * max(float(rest.norm()), 1e-6), name


def test_a_merge_with_its_residual_is_exact(capsys, base, styles, tmp_path):
    out, rest = tmp_path / "m.safetensors", tmp_path / "rest.safetensors"
    done = answer(
        capsys, "merge", "--base", base, "--adapter", styles[0], "--precision", "fp16", "--residual", rest, "--out", out
    )
    assert done["residual"] == str(rest)
    assert 0 < done["report"]["total"] < 1
    again = answer(
        capsys,
        "merge",
        "--base",
        out,
        "--adapter",
        rest,
        "--precision",
        "fp32",
        "--out",
        tmp_path / "exact.safetensors",
    )
    whole = answer(
        capsys,
        "merge",
        "--base",
        base,
        "--adapter",
        styles[0],
        "--precision",
        "fp32",
        "--out",
        tmp_path / "whole.safetensors",
    )
    exact, wanted, plain = (load_file(each["path"]) for each in (again, whole, done))
    name = next(key for key in wanted if key.endswith("attn1.to_q.weight"))
    assert (exact[name] - wanted[name]).norm() < 0.01 * (plain[name].float() - wanted[name]).norm()


def test_what_was_merged_is_extracted_again(capsys, base, styles, tmp_path):
    merged = answer(
        capsys, "merge", "--base", base, "--adapter", styles[0], "--precision", "fp32", "--out", tmp_path / "m"
    )
    done = answer(
        capsys, "extract", merged["path"], "--base", base, "--keep", "0.9999", "--out", tmp_path / "e.safetensors"
    )
    wanted, found = deltas(styles[0]), deltas(done["path"])
    for name in wanted:
        assert (found[name] - wanted[name]).norm() < 0.05 * wanted[name].norm() + 1e-6, name


def test_an_adapter_is_made_smaller_and_the_cost_is_said(capsys, styles, tmp_path):
    done = answer(capsys, "resize", styles[0], "--rank", "1", "--out", tmp_path / "s.safetensors")
    assert done["after"] < done["before"]
    assert 0 < done["report"]["total"] < 1
    assert {weights.rank for weights in read_adapter(Path(done["path"])).modules.values()} == {1}


def test_a_conflict_is_told_per_block_and_drawn(capsys, styles, tmp_path):
    found = answer(capsys, "conflict", *styles, "--plot", tmp_path / "c.png")
    assert found["blocks"]
    assert -1 <= found["whole"]["cosine"] <= 1
    assert width(found["plot"]) > 300
    same = answer(capsys, "conflict", styles[0], styles[0])
    assert same["whole"]["cosine"] == pytest.approx(1, abs=1e-5)


def test_a_decomposed_adapter_is_resized_and_compared_with_its_base(capsys, base, styles, tmp_path):
    plain = read_adapter(styles[0])
    name = next(name for name in plain.modules if name.startswith("denoiser."))
    norms = open_checkpoint(Path(base)).tensor(f"{name}.weight").norm(dim=1, keepdim=True) * 1.1
    modules = {name: replace(plain.modules[name], extra={"dora_scale": norms})}
    write_adapter(replace(plain, modules=modules), tmp_path / "dora.safetensors", dtype="fp32")
    small = ("resize", tmp_path / "dora.safetensors", "--rank", "2", "--out", tmp_path / "small.safetensors")
    against = ("conflict", tmp_path / "dora.safetensors", styles[0])
    for verb in (small, against):
        assert run(list(map(str, verb))) == 2
        assert "--base" in capsys.readouterr().err
    assert answer(capsys, *small, "--base", base)["report"]["layers"].keys() == {name}
    assert read_adapter(tmp_path / "small.safetensors").modules[name].is_plain
    assert answer(capsys, *against, "--base", base)["whole"]["modules"] == 1


def test_an_inspection_draws_and_mends(capsys, styles, tmp_path):
    found = answer(capsys, "inspect", styles[0], "--plot", tmp_path / "p.png")
    assert found["anomalies"] == []
    assert width(found["plot"]) > 300
    tensors = load_file(styles[0])
    broken = {f"lora_unet_{key}" if key.startswith("lora_unet_") else key: value for key, value in tensors.items()}
    save_file(broken, tmp_path / "broken.safetensors")
    mended = answer(capsys, "inspect", tmp_path / "broken.safetensors", "--fix", tmp_path / "mended.safetensors")
    assert mended["fixed"]["mended"]
    wanted, got = deltas(styles[0]), deltas(tmp_path / "mended.safetensors")
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_a_card_is_written_and_privacy_is_shown_before(capsys, styles, tmp_path):
    shown = answer(capsys, "export", styles[0], tmp_path / "x.safetensors", "--privacy", "public", "--preview")
    assert shown["privacy"] == "public"
    assert not (tmp_path / "x.safetensors").exists()
    card = tmp_path / "card.html"
    done = answer(capsys, "export", styles[0], tmp_path / "x.safetensors", "--card", card, "--weights", "0.6", "1.0")
    assert done["cards"] == [str(card)]
    assert done["sha256"] in card.read_text("utf-8")


def test_a_block_that_does_not_exist_is_answered_with_those_that_do(capsys, styles, tmp_path):
    assert run(["blend", f"{styles[0]}:1@unet.upp=2", str(styles[1]), "--out", str(tmp_path / "b.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "unet.upp" in said
    assert "unet.up" in said.replace("unet.upp", "")


def test_no_result_takes_the_place_of_what_it_is_made_of(capsys, base, styles, tmp_path):
    style = tmp_path / "a.safetensors"
    style.write_bytes(styles[0].read_bytes())
    merged = Path(
        answer(capsys, "merge", "--base", base, "--adapter", style, "--out", tmp_path / "m.safetensors")["path"]
    )
    before = style.read_bytes(), merged.read_bytes()
    for words in (
        ["blend", style, styles[1], "--out", style],
        ["merge", "--base", merged, "--adapter", style, "--out", merged],
        ["merge", "--base", merged, "--adapter", style, "--out", tmp_path / "n.safetensors", "--residual", merged],
        ["merge", "--base", merged, "--adapter", style, "--out", tmp_path / "n.safetensors", "--residual", style],
        [
            "merge",
            "--base",
            merged,
            "--adapter",
            style,
            "--out",
            tmp_path / "n.safetensors",
            "--residual",
            tmp_path / "n.safetensors",
        ],
        ["merge", "--base", base, "--adapter", style, "--out", Path(base) / "inside.safetensors"],
        ["export", style, style],
        ["export", style, tmp_path / "x.safetensors", "--card", style],
        ["resize", style, "--rank", "1", "--out", style],
        ["extract", merged, "--base", base, "--rank", "1", "--out", merged],
        ["inspect", style, "--fix", style],
        ["inspect", style, "--plot", style],
        ["conflict", style, styles[1], "--plot", style],
    ):
        assert run([*map(str, words), "--overwrite"]) == 2, words
        assert capsys.readouterr().err.startswith("error: ")
    assert (style.read_bytes(), merged.read_bytes()) == before
    assert not (tmp_path / "n.safetensors").exists()
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_merge_that_would_be_infinite_is_refused_in_every_precision(capsys, base, styles, tmp_path, precision):
    words = ["merge", "--base", base, "--adapter", f"{styles[0]}:1e39", "--precision", precision]
    assert run([*map(str, words), "--out", str(tmp_path / "m.safetensors")]) == 3
    assert "lower the weights" in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()
