"""How people write one adapter of a blend, and what that means for each module."""

import pytest

from lora_diffusion.blocks import BLOCKS, PRESETS, block_of, holds, levels_of
from lora_diffusion.errors import TargetError, UsageError
from lora_diffusion.parts import PartSpec, module_weights, parse_part

_INSIDE = ("attn1.to_q", "attn2.to_v", "ff.net.2")
SD1 = [
    *(
        f"denoiser.{block}.transformer_blocks.0.{each}"
        for block in (
            *(f"down_blocks.{level}.attentions.{layer}" for level in range(3) for layer in range(2)),
            "mid_block.attentions.0",
            *(f"up_blocks.{level}.attentions.{layer}" for level in range(1, 4) for layer in range(3)),
        )
        for each in _INSIDE
    ),
    "denoiser.up_blocks.3.resnets.0.conv1",
    "denoiser.up_blocks.0.upsamplers.0.conv",
    "denoiser.time_embedding.linear_1",
    "denoiser.down_blocks.0.attentions.0.proj_in",
    *(f"text_encoder.text_model.encoder.layers.{layer}.self_attn.q_proj" for layer in range(12)),
    "text_encoder.text_model.encoder.layers.11.mlp.fc1",
]
SDXL = [
    *(
        f"denoiser.{block}.transformer_blocks.{depth}.attn2.to_k"
        for block in (
            *(f"down_blocks.{level}.attentions.{layer}" for level in (1, 2) for layer in range(2)),
            *(f"up_blocks.{level}.attentions.{layer}" for level in (0, 1) for layer in range(3)),
        )
        for depth in range(2)
    ),
    "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
]


@pytest.mark.parametrize(
    ("text", "source", "weight", "overrides", "presets"),
    [
        ("style.safetensors", "style.safetensors", 1.0, {}, ()),
        ("style.safetensors:0.8", "style.safetensors", 0.8, {}, ()),
        ("a:0.8@unet.up=1.2@text=0", "a", 0.8, {"unet.up": 1.2, "text": 0.0}, ()),
        ("a:-.3e-1@style-only", "a", -0.03, {}, ("style-only",)),
        ("a@unet.mid=2", "a", 1.0, {"unet.mid": 2.0}, ()),
        (r"C:\loras\a.safetensors", r"C:\loras\a.safetensors", 1.0, {}, ()),
        (r"C:\loras\a.safetensors:0.5@text=0", r"C:\loras\a.safetensors", 0.5, {"text": 0.0}, ()),
        ("D:/a.safetensors@colours", "D:/a.safetensors", 1.0, {}, ("colours",)),
        ("brand@3", "brand@3", 1.0, {}, ()),
        ("brand@3:0.5@no-text@unet.mid=0.1", "brand@3", 0.5, {"unet.mid": 0.1}, ("no-text",)),
        ("home@work/a.safetensors:1", "home@work/a.safetensors", 1.0, {}, ()),
    ],
)
def test_a_part_is_read_and_written_back(text, source, weight, overrides, presets):
    part = parse_part(text)
    assert (part.source, part.weight, dict(part.overrides), part.presets) == (source, weight, overrides, presets)
    assert parse_part(str(part)) == part


@pytest.mark.parametrize(
    ("text", "says", "hints"),
    [
        ("a.safetensors:x", "'x' is no number", "0.8"),
        ("a:0.8@stile-only", "'stile-only' is no preset", "did you mean 'style-only'"),
        ("a.safetensors@stile-only", "'stile-only' is no preset", "unet.up"),
        ("a:0.8@unet.mit=1", "no block 'unet.mit'", "did you mean 'unet.mid'"),
        ("a:1@text=b", "'b' is no number", "0.8"),
        ("a:1@text=1@text=2", "gives text twice", "one weight"),
        ("a:nan", "the weight of a is nan", "number"),
        ("a:1@text=inf", "in text is inf", "number"),
        ("", "names no adapter", "PATH:WEIGHT"),
        (":0.5", "names no adapter", "PATH:WEIGHT"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_there_is(text, says, hints):
    with pytest.raises(UsageError, match=says) as caught:
        parse_part(text)
    assert hints in caught.value.hint


@pytest.mark.parametrize(
    ("block", "count"),
    [
        ("unet", 16 * 3 + 4),
        ("unet.down", 18 + 1),
        ("unet.down.1", 6),
        ("unet.down.1.0", 3),
        ("unet.mid", 3),
        ("unet.up", 27 + 2),
        ("unet.up.0", 1),
        ("unet.up.3.attn2", 3),
        ("unet.attn1", 16),
        ("unet.self", 16),
        ("unet.cross", 16),
        ("unet.attn", 32),
        ("unet.ff", 16),
        ("unet.conv", 2),
        ("unet.proj", 1),
        ("unet.time", 1),
        ("text", 13),
        ("text.11", 2),
        ("text.1", 1),
        ("text.mlp", 1),
        ("text2", 0),
    ],
)
def test_a_block_holds_the_modules_that_its_name_says(block, count):
    assert sum(holds(block, module) for module in SD1) == count


def test_every_form_that_help_shows_is_a_block():
    for block in BLOCKS:
        holds(block, SD1[0])
    assert {block_of(module) for module in SD1} <= {
        *BLOCKS,
        *(f"unet.{side}.{n}" for side in ("down", "up") for n in range(4)),
    }


def test_the_longer_block_wins_and_of_equal_ones_the_later():
    part = PartSpec(weight=0.5, overrides={"unet.up.1": 3.0, "unet.up": 2.0, "unet.attn2": 4.0})
    at = module_weights(part, SD1, family="sd1")
    inside = "transformer_blocks.0"
    assert at[f"denoiser.mid_block.attentions.0.{inside}.attn1.to_q"] == 0.5
    assert at[f"denoiser.up_blocks.2.attentions.0.{inside}.attn1.to_q"] == 2.0
    assert at[f"denoiser.up_blocks.2.attentions.0.{inside}.attn2.to_v"] == 4.0
    assert at[f"denoiser.up_blocks.1.attentions.0.{inside}.attn2.to_v"] == 3.0


def test_style_and_composition_share_the_unet_of_stable_diffusion_1_between_them():
    style, composition = (
        module_weights(PartSpec(presets=(name,)), SD1, family="sd1") for name in ("style-only", "composition-only")
    )
    levels = [module for module in SD1 if ".down_blocks" in module or ".up_blocks" in module or ".mid_" in module]
    assert all(style[module] + composition[module] == 1 for module in levels)
    assert levels_of(SD1) == 4
    fine = "denoiser.up_blocks.3.attentions.0.transformer_blocks.0.attn1.to_q"
    assert (style[fine], composition[fine]) == (1, 0)
    assert not any(style[module] for module in SD1 if module.startswith("text_encoder"))


@pytest.mark.parametrize(
    ("preset", "stays"),
    [
        ("style-only", {"up_blocks.0.attentions.1"}),
        ("composition-only", {"up_blocks.0.attentions.0", "down_blocks.2.attentions.1"}),
        ("colours", {f"up_blocks.1.attentions.{layer}" for layer in range(3)}),
    ],
)
def test_presets_of_stable_diffusion_xl_take_the_blocks_of_the_papers(preset, stays):
    at = module_weights(PartSpec(presets=(preset,)), SDXL, family="sdxl")
    found = {module.removeprefix("denoiser.").partition(".transformer")[0] for module, weight in at.items() if weight}
    assert found == stays


def test_presets_multiply_and_an_override_replaces():
    part = parse_part("a:0.6@loose-composition@no-text@unet.mid=0.9")
    at = module_weights(part, SD1, family="sd1")
    inside = "attentions.0.transformer_blocks.0.attn1.to_q"
    assert at[f"denoiser.down_blocks.2.{inside}"] == 0.3
    assert at[f"denoiser.down_blocks.0.{inside}"] == 0.6
    assert at[f"denoiser.mid_block.{inside}"] == 0.9
    assert at["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"] == 0


def test_every_preset_says_what_it_multiplies():
    assert all("x0" in each.says or "x1" in each.says for each in PRESETS.values())


@pytest.mark.parametrize("text", ["a:1@text2=0.5", "a:1@unet.up.7=0.5", "a:1@text.12=1"])
def test_a_block_that_the_adapter_does_not_reach_is_named(text):
    with pytest.raises(TargetError, match=r"changes nothing in (text2|unet\.up\.7|text\.12)"):
        module_weights(parse_part(text), SD1, family="sd1")


def test_switching_off_what_is_not_there_is_no_mistake():
    assert set(module_weights(parse_part("a:1@text2=0"), SD1, family="sd1").values()) == {1.0}


def test_a_preset_that_leaves_nothing_is_named():
    with pytest.raises(TargetError, match="text-only"):
        module_weights(parse_part("a@text-only"), [SD1[0]], family="sd1")
