"""A plan is typed: an unknown key is an error with the nearest spelling, and what is written reads back."""

from pathlib import Path

import pytest

from lora_diffusion.errors import PlanError
from lora_diffusion.settings import from_toml, keys, to_toml
from lora_diffusion.training.plan import TrainPlan

NEEDED = ["base.path=demo", "data.folder=pictures"]


def read(*overrides, path=None):
    return from_toml(TrainPlan, path, [*NEEDED, *overrides])


def test_a_file_and_overrides_which_win(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('[base]\npath = "x"\n[data]\nfolder = "y"\n[optim]\nlr = 1e-3\n[adapter]\nrank = 8\n')
    plan = from_toml(TrainPlan, path, ["optim.lr=5e-4", "run.steps=7", "adapter.targets=attention,text"])
    assert (plan.base.path, plan.optim.lr, plan.adapter.rank, plan.run.steps) == ("x", 5e-4, 8, 7)
    assert plan.adapter.targets == ("attention", "text")


@pytest.mark.parametrize(
    ("override", "says", "hint"),
    [
        ("adapter.rnk=4", "adapter.rnk", "adapter.rank"),
        ("optm.lr=1", r"\[optm\]", "optim"),
        ("run.step=4", "run.step", "run.steps"),
        ("rank=4", "not an override", "section.key=value"),
        ("adapter.rank", "not an override", "section.key=value"),
        ("adapter.rank=four", "adapter.rank.*four", "section.key=value"),
        ("adapter.rank=0", "adapter.rank.*0", ""),
        ("optim.lr=-1", "optim.lr", ""),
        ("run.attention=magic", "run.attention.*auto", ""),
        ("run.micro_batch=9", "micro_batch exceeds", ""),
        ("data.background=white", "data.background", ""),
    ],
)
def test_what_cannot_be_is_one_clear_sentence(override, says, hint):
    with pytest.raises(PlanError, match=says) as caught:
        read(override)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[base\n", "not readable as TOML"),
        ("base = 1\n", "base is a section"),
        ("[bass]\n", r"\[bass\]"),
        ("[adapter]\nalhpa = 1\n", "adapter.alhpa"),
    ],
)
def test_a_broken_file_names_itself(tmp_path, text, says):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(PlanError, match=says) as caught:
        read(path=path)
    assert str(path) in str(caught.value)


def test_a_missing_plan_and_missing_keys_are_named(tmp_path):
    with pytest.raises(PlanError, match="no plan at"):
        read(path=tmp_path / "none.toml")
    with pytest.raises(PlanError, match=r"base: .*data: "):
        from_toml(TrainPlan, None)


def test_a_plan_reads_back_as_it_was_written(tmp_path):
    plan = read(
        "adapter.targets=a,b", 'adapter.ranks={text=2, "denoiser.*"=3}', "optim.text_lr=1e-5", "data.trigger=ü x"
    )
    path = tmp_path / "plan.toml"
    path.write_text(to_toml(plan), "utf-8")
    assert from_toml(TrainPlan, path) == plan


def test_text_needs_no_quotes_and_numbers_stay_text_where_text_is_wanted():
    assert read("data.trigger=my brand").data.trigger == "my brand"
    assert read("data.trigger=1999").data.trigger == "1999"


def test_there_are_at_most_80_settings_and_each_has_its_reason():
    assert len(keys(TrainPlan)) <= 80
    for section in TrainPlan.model_fields.values():
        assert all(field.description for field in section.annotation.model_fields.values())


@pytest.mark.parametrize("file", sorted(Path("configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_plan_that_comes_along_is_valid_and_gives_its_reasons(file):
    plan = from_toml(TrainPlan, file)
    assert plan.base.path
    values = [line for line in file.read_text("utf-8").splitlines() if "=" in line and not line.startswith("#")]
    assert all("#" in line for line in values), "every value carries its reason"
