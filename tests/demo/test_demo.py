"""The main job works: the styles arrive on things they never showed, and the thing is still there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lora_diffusion.demo import held_out_prompts, style_names
from lora_diffusion.demo.icons import held_out
from lora_diffusion.demo.main import PLAN, contact_sheet
from lora_diffusion.demo.measure import distance
from lora_diffusion.generation.generator import Generator
from lora_diffusion.settings import from_toml
from lora_diffusion.training import loop
from lora_diffusion.training.plan import TrainPlan

ROOT = Path(__file__).parents[2]
TRUE = ROOT / "tests" / "data" / "held_out"
COUNT = 12
STEPS = 120
"""A third of the demo's: what arrives by then is enough to see whether training works."""


def tensors(images):
    stacked = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255


def drawn(adapter=None):
    with Generator.open("demo") as generator:
        if adapter:
            generator.add(adapter)
        pictures = generator.generate_many(held_out_prompts(COUNT), seeds=range(COUNT), steps=15)
    return tensors([picture.image for picture in pictures])


def true(style):
    return tensors([Image.open(TRUE / style / f"{name.replace(' ', '_')}.png") for name in held_out(COUNT)])


@pytest.fixture(scope="module")
def plain():
    """What the base draws without an adapter."""
    return drawn()


def test_the_base_draws_what_the_prompt_names(plain):
    assert distance(plain, true("plain")).found >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("style", style_names())
def test_a_style_arrives_on_icons_it_never_showed_and_they_stay_what_they_are(style, plain, tmp_path):
    overrides = [f"data.folder=demo:{style}", f"run.out={tmp_path / 'out'}", f"run.steps={STEPS}"]
    done = loop.train(from_toml(TrainPlan, PLAN, [*overrides, "run.tensorboard=false"]))
    styled, base = distance(drawn(done.adapter), true(style)), distance(plain, true(style))
    assert styled.pixels < 0.7 * base.pixels
    assert styled.colours < base.colours
    assert styled.found >= 0.75


def test_the_plan_of_the_demo_is_the_one_in_configs():
    assert PLAN.read_text("utf-8") == (ROOT / "configs" / "demo.toml").read_text("utf-8")


def test_every_value_of_the_configs_has_its_reason():
    for path in (ROOT / "configs").glob("*.toml"):
        values = [line for line in path.read_text("utf-8").splitlines() if "=" in line and not line.startswith("#")]
        assert values
        assert all("#" in line for line in values), path


def test_the_sheet_has_a_cell_per_column_and_row():
    cells = [[Image.new("RGB", (16, 16), (x * 50, y * 50, 0)) for y in range(2)] for x in range(3)]
    sheet = contact_sheet(["a", "b", "c"], ["one", "two"], cells)
    colours = {sheet.getpixel((x, y)) for x in range(sheet.width) for y in range(sheet.height)}
    assert {(x * 50, y * 50, 0) for x in range(3) for y in range(2)} - {(0, 0, 0)} <= colours
