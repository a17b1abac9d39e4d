"""Suggested plans: they suit the base model and the number of pictures, and a script gets what the page suggests."""

import tomllib
from pathlib import Path

import pytest
from PIL import Image

from lora_diffusion import TrainPlan, from_text, from_toml, suggest_plan, to_toml
from lora_diffusion.cli import run
from lora_diffusion.errors import UsageError
from lora_diffusion.training.check import check_plan
from lora_diffusion.training.presets import QUALITIES

CONFIGS = Path(__file__).parents[2] / "configs"


def pictures(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(folder / f"{number}.png")
    return str(folder)


def test_balanced_on_the_demo_base_is_the_plan_of_the_demo():
    made = suggest_plan(data="demo:papercut")
    config = from_toml(TrainPlan, CONFIGS / "demo.toml")
    assert made.adapter == config.adapter
    assert made.optim == config.optim
    assert (made.run.steps, made.run.batch_size, made.data.caption_dropout) == (420, 8, 0.1)


@pytest.mark.parametrize(("family", "config"), [("sd1", "sd15-style"), ("sdxl", "sdxl-style")])
def test_balanced_on_other_bases_is_the_config_that_ships(family, config, tmp_path):
    shipped = from_toml(TrainPlan, CONFIGS / f"{config}.toml")
    made = suggest_plan(data=pictures(tmp_path / "few", 20), base="somewhere", family=family)
    assert made.adapter.rank == shipped.adapter.rank
    assert made.adapter.targets == shipped.adapter.targets
    assert made.optim.lr == shipped.optim.lr
    assert made.run.steps == shipped.run.steps
    assert made.run.gradient_checkpointing == shipped.run.gradient_checkpointing


def test_a_better_quality_takes_more_steps():
    steps = [suggest_plan(data="demo:papercut", quality=each).run.steps for each in QUALITIES]
    assert steps == [120, 420, 800]


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("count", [1, 5, 300])
def test_no_suggestion_gives_a_picture_too_few_or_too_many_looks(quality, count, tmp_path):
    made = suggest_plan(data=pictures(tmp_path / "set", count), quality=quality)
    odd = [one.code for one in check_plan(made, probe=False).findings if one.code in ("steps-per-image", "rate-odd")]
    assert odd == []


def test_the_trigger_is_in_the_captions_and_in_the_previews():
    made = suggest_plan(data="demo:papercut", trigger="papyro")
    assert made.data.trigger == "papyro"
    assert len(made.previews.prompts) == 2
    assert all(prompt.startswith("papyro, ") for prompt in made.previews.prompts)


def test_an_unknown_quality_names_those_there_are():
    with pytest.raises(UsageError) as refused:
        suggest_plan(data="demo:papercut", quality="superb")
    assert "quick, balanced, best" in refused.value.hint


def test_the_command_writes_the_plan_that_the_function_suggests(tmp_path):
    out = tmp_path / "plan.toml"
    words = ["plan", "--data", "demo:papercut", "--quality", "quick", "--trigger", "papyro", "--out", str(out)]
    assert run(words) == 0
    assert from_toml(TrainPlan, out) == suggest_plan(data="demo:papercut", quality="quick", trigger="papyro")


def test_the_command_replaces_no_file_unasked(tmp_path, capsys):
    out = tmp_path / "plan.toml"
    out.write_text("mine")
    assert run(["plan", "--data", "demo:papercut", "--out", str(out)]) == 2
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_prints_a_plan_that_can_be_read(capsys):
    assert run(["plan", "--data", "demo:papercut"]) == 0
    printed = capsys.readouterr().out
    assert tomllib.loads(printed)["run"]["steps"] == 420


def test_a_plan_comes_back_from_its_text():
    plan = suggest_plan(data="demo:papercut", trigger="papyro")
    assert from_text(TrainPlan, to_toml(plan)) == plan


def test_text_that_is_no_plan_is_refused_with_the_nearest_spelling():
    with pytest.raises(UsageError) as refused:
        from_text(TrainPlan, "[adapter]\nrnak = 3\n", name="form")
    assert str(refused.value) == "form: unknown key adapter.rnak"
    assert "rank" in refused.value.hint
