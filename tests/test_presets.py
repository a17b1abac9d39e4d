"""Presets as they are drawn: one sentence and one bar for each block, true of the real architectures."""

import re

import pytest
from torch import nn

from lora_diffusion.blocks import PRESETS, holds, preset_bars, preset_names
from lora_diffusion.errors import UsageError
from lora_diffusion.families.names import canonical, component_of
from lora_diffusion.parts import PartSpec, module_weights
from tests.families import real

FAMILIES = ("sd1", "sd2", "sdxl")


def modules(family):
    """Every layer of the real architecture that can carry an adapter."""
    return [
        canonical(component, path)
        for component, module in real.modules(family).items()
        if component != "vae"
        for path, each in module.named_modules()
        if isinstance(each, nn.Linear | nn.Conv2d)
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PRESETS)
def test_a_bar_is_the_weight_of_every_module_in_its_block(name, family):
    names = modules(family)
    weights = module_weights(PartSpec(presets=(name,)), names, family=family)
    for block, factor in preset_bars(name, family=family).factors.items():
        inside = [each for each in names if holds(block, each)]
        assert inside
        assert {weights[each] for each in inside} == {factor}, block


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bars_hold_every_layer_of_the_model_once(family):
    layer = re.compile(r"denoiser\.(?:\w+_blocks\.\d+|mid_block)\.(?:attentions|resnets)\.|text_encoder")
    blocks = preset_bars("style-only", family=family).factors
    for name in filter(layer.match, modules(family)):
        assert sum(holds(block, name) for block in blocks) == 1, name


# What the sentences promise, by the blocks that papers name: 1 stays, 0 goes.
CHANGES = {
    ("style-only", "sd1"): ({"unet.up.3.2": 1, "unet.down.0.0": 1}, {"unet.mid": 0, "unet.up.1.0": 0, "text": 0}),
    ("style-only", "sd2"): ({"unet.up.2.1": 1}, {"unet.mid": 0, "unet.down.2.0": 0, "text": 0}),
    ("style-only", "sdxl"): ({"unet.up.0.1": 1}, {"unet.up.0.0": 0, "unet.up.1.0": 0, "text2": 0}),
    ("composition-only", "sd1"): ({"unet.mid": 1, "unet.up.1.0": 1}, {"unet.up.3.2": 0, "text": 0}),
    ("composition-only", "sd2"): ({"unet.mid": 1, "unet.down.3.0": 1}, {"unet.down.0.0": 0, "text": 0}),
    ("composition-only", "sdxl"): ({"unet.up.0.0": 1, "unet.down.2.1": 1}, {"unet.up.0.1": 0, "text": 0}),
    ("colours", "sd1"): ({"unet.up.3.0": 1, "unet.down.0.1": 1}, {"unet.up.2.0": 0, "unet.mid": 0}),
    ("colours", "sd2"): ({"unet.up.3.0": 1}, {"unet.up.2.0": 0, "text": 0}),
    ("colours", "sdxl"): ({"unet.up.1.0": 1, "unet.up.2.2": 1}, {"unet.up.0.1": 0, "unet.down.1.0": 0}),
    ("loose-composition", "sd1"): ({"unet.up.3.0": 1, "text": 1}, {"unet.mid": 0.5}),
    ("loose-composition", "sd2"): ({"unet.up.3.0": 1, "text": 1}, {"unet.mid": 0.5}),
    ("loose-composition", "sdxl"): ({"unet.up.0.1": 1, "text2": 1}, {"unet.up.0.0": 0.5}),
    **{("no-text", family): ({"unet.mid": 1, "unet.up.0.0": 1}, {"text": 0}) for family in FAMILIES},
    **{("text-only", family): ({"text": 1}, {"unet.mid": 0, "unet.up.0.0": 0}) for family in FAMILIES},
}


@pytest.mark.parametrize(("name", "family"), [(name, family) for name in PRESETS for family in FAMILIES])
def test_a_preset_keeps_and_leaves_what_it_says(name, family):
    found = preset_bars(name, family=family).factors
    stays, goes = CHANGES[name, family]
    assert {block: found[block] for block in (*stays, *goes)} == {**stays, **goes}


@pytest.mark.parametrize("family", FAMILIES)
def test_bars_stand_in_the_order_in_which_a_picture_passes_them(family):
    blocks = list(preset_bars("no-text", family=family).factors)
    runs = [component_of(name) for name in modules(family)]
    assert ("text2" in blocks) is ("text_encoder_2" in runs)
    assert blocks[:2] == ["unet.down.0.0", "unet.down.0.1"]
    middle = blocks.index("unet.mid")
    assert all(block.startswith("unet.down") for block in blocks[:middle])
    assert blocks[middle + 1 :] == sorted(b for b in blocks if ".up." in b) + [b for b in blocks if "text" in b]


def test_every_preset_is_one_sentence_without_names_of_blocks():
    assert preset_names() == tuple(PRESETS)
    for name in preset_names():
        plain = preset_bars(name, family="sd1").plain
        assert re.fullmatch(r"[A-Z][^.]+\.", plain)
        assert not re.search(r"unet|encoder|block|level|x0|x1", plain)


@pytest.mark.parametrize(
    ("name", "family", "says", "hint"),
    [("stile-only", "sd1", "no preset 'stile-only'", "style-only"), ("colours", "flux", "family 'flux'", "sdxl")],
)
def test_what_does_not_exist_is_named_with_what_does(name, family, says, hint):
    with pytest.raises(UsageError, match=says) as caught:
        preset_bars(name, family=family)
    assert hint in caught.value.hint
