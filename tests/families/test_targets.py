"""Targets of the real architectures: how many, what they are called, what shape they have."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.inject import choose_targets
from lora_diffusion.adapters.spec import AdapterSpec
from lora_diffusion.families import families
from lora_diffusion.families.base import Components
from lora_diffusion.families.folder import sampler
from lora_diffusion.objectives import objective
from tests import tiny
from tests.families import real

# Transformer blocks: 16, and 70 in XL; each has 8 attention and 2 feed-forward layers, each transformer 2 projections.
COUNTS = {
    "sd1": {"attention": 128, "self-attention": 64, "cross-attention": 64, "feed-forward": 32, "projections": 32},
    "sd2": {"attention": 128, "self-attention": 64, "cross-attention": 64, "feed-forward": 32, "projections": 32},
    "sdxl": {"attention": 560, "self-attention": 280, "cross-attention": 280, "feed-forward": 140, "projections": 22},
}
TEXTS = {
    "sd1": {"text": 12 * 4, "text-mlp": 12 * 2},
    "sd2": {"text": 23 * 4, "text-mlp": 23 * 2},
    "sdxl": {"text": (11 + 32) * 4, "text-mlp": (11 + 32) * 2, "style-block": 80, "content-block": 80},
}


def components(family):
    """The real modules without weights."""
    modules = real.modules(family)
    scheduler = sampler(real.configs(family)["scheduler"])
    return Components(
        path=Path(),
        denoiser=modules["denoiser"],
        text_encoders={name: modules[name] for name in families()[family].encoder_classes},
        tokenizers={},
        vae=modules["vae"],
        scheduler=scheduler,
        objective=objective(scheduler.config.prediction_type, scheduler.alphas_cumprod),
        dtype=torch.float32,
        device=torch.device("meta"),
        resolution=512,
        bucket_step=64,
    )


def chosen(family, name):
    each = families()[family]
    slots = each.slots(components(family))
    return {target: slots[target].base for target in choose_targets(slots, AdapterSpec(targets=(name,)), each.targets)}


@pytest.mark.parametrize(
    ("family", "name", "count"),
    [(family, *row) for family in COUNTS for row in {**COUNTS[family], **TEXTS[family]}.items()],
)
def test_a_target_set_names_as_many_modules_as_the_architecture_has(family, name, count):
    found = chosen(family, name)
    assert len(found) == count
    assert all(isinstance(module, nn.Linear | nn.Conv2d) for module in found.values())


@pytest.mark.parametrize(
    ("family", "target", "shape"),
    [
        ("sd2", "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", (320, 1024)),
        ("sdxl", "denoiser.mid_block.attentions.0.transformer_blocks.9.attn2.to_v", (1280, 2048)),
        ("sdxl", "denoiser.up_blocks.0.attentions.1.transformer_blocks.9.attn1.to_out.0", (1280, 1280)),
    ],
)
def test_cross_attention_is_as_wide_as_the_text(family, target, shape):
    assert tuple(chosen(family, "attention")[target].weight.shape) == shape


@pytest.mark.parametrize(("family", "linear"), [("sd1", False), ("sd2", True), ("sdxl", True)])
def test_projections_are_linear_where_the_text_encoder_is_open_clip(family, linear):
    assert {isinstance(module, nn.Linear) for module in chosen(family, "projections").values()} == {linear}


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_names_of_text_encoders_always_have_text_model(family):
    names = [name for name in chosen(family, "text") if name.startswith("text_encoder")]
    assert names
    assert all(".text_model.encoder.layers." in name for name in names)


def test_the_first_encoder_of_xl_is_left_alone_after_what_is_read():
    last = [name for name in chosen("sdxl", "text") if name.startswith("text_encoder.") and ".layers.11." in name]
    assert last == []


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_no_sampler_cuts_latents_off(family):
    config = real.configs(family)["scheduler"]
    bare = {key: value for key, value in config.items() if key not in ("clip_sample", "set_alpha_to_one")}
    for each in (config, bare):
        assert not sampler(each).config.clip_sample
        assert not sampler(each).config.set_alpha_to_one
