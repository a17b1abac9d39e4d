"""The whole way on a toy base model: found, drawn, measured, written, shown."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lora_diffusion import evaluate
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.cli import run
from lora_diffusion.embedded import BASE, STYLES
from lora_diffusion.errors import UsageError, WrongFamily
from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evidence import Mix, Question
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.rendering import figure
from lora_diffusion.evaluation.studio import Studio
from lora_diffusion.evaluation.subject import NEUTRAL, subject_of
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from tests import tiny

SMALL = Design(weights=(0.5, 1.0), prompts=3, steps=2)


def adapter(base, *, seed=0, strength=0.1, name="style", metadata=None):
    """An adapter with a plain effect on the attention of a toy base."""
    from safetensors import safe_open

    modules = {}
    with safe_open(base / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        keys = [key for key in file.keys() if ".attn" in key and key.endswith(("to_q.weight", "to_v.weight"))]  # noqa: SIM118
        for number, key in enumerate(sorted(keys)):
            rows, columns = file.get_slice(key).get_shape()
            draw = torch.Generator().manual_seed(1000 * seed + number)
            modules[f"denoiser.{key.removesuffix('.weight')}"] = Weights(
                down=torch.randn(4, columns, generator=draw),
                up=strength * torch.randn(rows, 4, generator=draw),
                alpha=4.0,
            )
    return Adapter(name=name, family="sd1", modules=modules, metadata=metadata or {})


@pytest.fixture(scope="module")
def style(base):
    return adapter(base, metadata={"modelspec.trigger_phrase": "zzz"})


def judged(style, base, **more):
    return evaluate(style, base=str(base), precision="no", device="cpu", **{"design": SMALL, **more})


@pytest.fixture(scope="module")
def evaluation(style, base, pictures):
    """An evaluation with everything: training and held-out pictures and another adapter."""
    return judged(style, base, data=str(pictures), held_out=str(pictures), against=adapter(base, seed=1, name="other"))


def about(style, base, *, data="", held_out="", prompts=4):
    return subject_of(
        style, None, base=str(base), data=data, held_out=held_out, prompts=prompts, on_progress=lambda *told: None
    )


def test_an_evaluation_is_plain_json_with_every_metric(evaluation):
    found = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert set(found["scores"]) == {each.name for each in metrics()}
    assert found["pictures_drawn"] == 5 * 3
    assert found["best_weight"] == evaluation.best_weight
    assert found["prompts"] == ["zzz, a apple icon", "zzz, a rocket icon", "zzz, a house icon"]
    assert all(found["scores"][name]["measured"] for name in ("memorisation", "held_out_gain", "drift", "interference"))


def test_the_same_arguments_give_the_same_figures_and_another_seed_gives_others(style, base):
    first, again = (json.dumps(judged(style, base).to_dict()) for _ in "ab")
    assert first == again
    assert json.dumps(judged(style, base, design=replace(SMALL, seed=1)).to_dict()) != first


def test_an_adapter_at_weight_0_is_the_base_model_to_the_bit(evaluation):
    assert evaluation.scores["response"].details["weight_0_is_the_base"] is True
    assert evaluation.scores["response"].value > 0


def test_one_picture_is_judged_as_far_as_it_says_something(style, base, pictures):
    one = replace(SMALL, weights=(1.0,), prompts=1)
    found = judged(style, base, design=one, data=str(pictures), held_out=str(pictures))
    assert found.scores["memorisation"].value > 0
    assert found.scores["response"].value > 0


def test_an_adapter_that_changes_nothing_shows_no_change(base):
    nothing = judged(adapter(base, strength=0.0), base)
    assert nothing.scores["response"].value == 0
    assert nothing.scores["drift"].value is None


def test_progress_is_told_to_the_end(style, base):
    told = []
    judged(style, base, on_progress=lambda *each: told.append(each))
    drawing = [each for each in told if each[0] == "drawing"]
    assert drawing[-1][1] == drawing[-1][2] == 4 * 3
    assert told[-1][1:] == (len(metrics()), len(metrics()))


def test_losses_are_paired_and_answers_follow_the_weights(style, base):
    subject = about(style, base)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    asked = [Question(picture=picture, words="a cat", band=band) for band in range(4)]
    with Studio(subject, seed=0, precision="no", device="cpu") as studio:
        bare = studio.losses(Mix(), asked)
        studio.load()
        assert np.array_equal(studio.losses(Mix(), asked), bare)
        assert np.array_equal(studio.losses(Mix(), asked[::-1])[::-1], bare) or np.allclose(
            studio.losses(Mix(), asked[::-1])[::-1], bare, rtol=1e-5
        )
        assert not np.allclose(studio.losses(Mix(adapter=1.0), asked), bare, rtol=1e-5)


def test_prompts_are_ordinary_things_where_no_held_out_pictures_say_more(style, base):
    assert [each.content for each in about(style, base).prompts] == list(NEUTRAL[:4])
    assert about(style, base).prompts[0].full == f"zzz, {NEUTRAL[0]}"


def test_an_adapter_of_the_embedded_base_finds_base_and_pictures_by_itself():
    shipped = read_adapter(STYLES.parent / "adapters" / "papercut.safetensors")
    subject = about(shipped, "")
    assert subject.base == BASE
    assert len(subject.training) == 24
    assert subject.training[0].caption == "papercut, a stack of books icon"
    assert subject.training[0].content == "a stack of books icon"
    assert all(each.content.endswith("icon") for each in subject.prompts)


def test_pictures_that_were_not_trained_on_are_noted(base, pictures):
    trained = adapter(base, metadata={"lora_diffusion.manifest": "0" * 64})
    assert "not exactly those" in about(trained, base, data=str(pictures)).notes[0]


def test_a_base_model_that_cannot_be_found_is_asked_for(base):
    trained = adapter(base, metadata={"lora_diffusion.base": "lost"})
    with pytest.raises(UsageError, match="it was trained on lost") as caught:
        about(trained, "")
    assert "--base" in caught.value.hint
    with pytest.raises(WrongFamily):
        about(replace(trained, family="sdxl"), base)


@pytest.mark.parametrize(
    "wrong", [{"weights": ()}, {"weights": (0.0,)}, {"weights": (1.0, 0.5)}, {"prompts": 0}, {"steps": 1001}]
)
def test_a_design_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        Design(**wrong)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_other_families_are_evaluated_alike(family, tmp_path):
    base = tiny.FAMILIES[family](tmp_path / family)
    found = judged(replace(adapter(base), family=family), base)
    assert found.scores["response"].details["weight_0_is_the_base"] is True


def test_the_command_writes_figures_and_a_page_and_prints_one_object(style, base, pictures, tmp_path, capsys):
    file, out = tmp_path / "<b>&style.safetensors", tmp_path / "out"
    write_adapter(style, file)
    words = ["evaluate", str(file), "--base", str(base), "--data", str(pictures), "--out", str(out), "--json"]
    words += ["--weights", "0.5,1", "--prompts", "2", "--steps", "2", "--precision", "no"]
    assert run(words) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert printed == {**written, "path": str(out / "evaluation.json"), "page": str(out / "evaluation.html")}
    page = (out / "evaluation.html").read_text("utf-8")
    assert "<b>&style" not in page
    assert "&lt;b&gt;&amp;style" in page
    assert page.count("<img") == 2 * 3 + 6
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--weights", "a", "--overwrite"]) == 2


def test_figures_are_shown_with_the_digits_that_they_are_known_to():
    assert [figure(value) for value in (93.4, 5.31, 0.127, -0.5)] == ["93", "5.3", "0.13", "-0.50"]


def test_damaged_pictures_are_left_out_and_a_folder_of_them_is_refused(style, base, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert [each.name for each in about(style, base, data=str(tmp_path)).training] == ["good.png"]
    (tmp_path / "good.png").unlink()
    with pytest.raises(UsageError, match="can be used"):
        about(style, base, data=str(tmp_path))
