"""The spelling of kohya files of Stable Diffusion XL, against the reader that diffusers has of its own."""

from collections import Counter
from types import SimpleNamespace

import pytest
from torch import nn

from lora_diffusion.families.names import naming, underscored
from lora_diffusion.families.sdxl import NAMING
from lora_diffusion.families.sgm import SgmNames
from tests.families import real

# As in files of sd-scripts for Stable Diffusion XL.
KNOWN = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": ("input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
    "down_blocks.2.attentions.1.proj_in": "input_blocks_8_1_proj_in",
    "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj": "middle_block_1_transformer_blocks_9_ff_net_0_proj",
    "up_blocks.0.attentions.1.transformer_blocks.3.attn2.to_out.0": (
        "output_blocks_1_1_transformer_blocks_3_attn2_to_out_0"
    ),
    "up_blocks.1.attentions.2.proj_out": "output_blocks_5_1_proj_out",
    "down_blocks.0.resnets.0.conv1": "input_blocks_1_0_in_layers_2",
    "down_blocks.0.resnets.1.time_emb_proj": "input_blocks_2_0_emb_layers_1",
    "up_blocks.2.resnets.0.conv_shortcut": "output_blocks_6_0_skip_connection",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_2_conv",
    "mid_block.resnets.1.conv2": "middle_block_2_out_layers_3",
    "add_embedding.linear_1": "label_emb_0_0",
    "time_embedding.linear_2": "time_embed_2",
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
}


def layers():
    """Path -> layer of the real denoiser that an adapter can reach."""
    found = real.modules("sdxl")["denoiser"].named_modules()
    return {path: each for path, each in found if isinstance(each, nn.Linear | nn.Conv2d)}


@pytest.mark.parametrize(("path", "spelled"), KNOWN.items())
def test_paths_are_spelled_as_published(path, spelled):
    assert NAMING.to_kohya(path) == spelled
    assert NAMING.from_kohya(spelled) == path


def test_every_layer_of_the_real_denoiser_is_spelled_and_read_back():
    spelled = {path: NAMING.to_kohya(path) for path in layers()}
    assert len(set(spelled.values())) == len(spelled)
    assert {path: NAMING.from_kohya(each) for path, each in spelled.items()} == {path: path for path in spelled}
    assert not [each for each in spelled.values() if each.startswith(("down_", "up_", "mid_"))]


def test_the_linear_layers_of_the_transformers_are_the_722_of_sd_scripts():
    inside = [path for path in layers() if ".attentions." in path]
    assert len(inside) == 722
    starts = Counter(NAMING.to_kohya(path).partition("_block")[0] for path in inside)
    assert set(starts) == {"input", "middle", "output"}


def test_diffusers_reads_the_blocks_as_we_do():
    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    paths = [path for path in layers() if ".attentions." in path or "samplers" in path]
    keys = {f"lora_unet_{NAMING.to_kohya(path)}.alpha": path for path in paths}
    moved = _maybe_map_sgm_blocks_to_diffusers(dict(keys), SimpleNamespace(layers_per_block=2))
    # It numbers blocks and layers anew, and leaves the words to a later step of its own.
    words = {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks", "_op": "_conv"}
    for key, path in moved.items():
        for theirs, ours in words.items():
            key = key.replace(theirs, ours)
        assert key == f"lora_unet_{underscored(path)}.alpha"
    assert len(moved) == 722 + 4


def test_the_spelling_follows_from_the_config_of_any_size():
    unet = {"layers_per_block": 1, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    names = SgmNames.of(unet)
    assert names.spell("down_blocks.1.attentions.0.proj_in") == "input_blocks_3_1_proj_in"
    assert names.spell("up_blocks.0.upsamplers.0.conv") == "output_blocks_1_1_conv"
    assert names.read("output_blocks_1_1_conv") == "up_blocks.0.upsamplers.0.conv"
    assert SgmNames.of(real.configs("sdxl")["unet"]).blocks == SgmNames(layers=2, attention=(True, True, False)).blocks


@pytest.mark.parametrize("spelled", ["", "nonsense", "input_blocks_4_1_nonsense", "input_blocks", "down_blocks_0"])
def test_what_is_no_path_of_the_original_layout_is_nothing(spelled):
    assert NAMING.from_kohya(spelled) is None


def test_each_family_has_the_prefixes_of_sd_scripts():
    assert naming("sdxl").prefixes == {
        "denoiser": "lora_unet",
        "text_encoder": "lora_te1",
        "text_encoder_2": "lora_te2",
    }
    assert naming("sd2").prefixes == {"denoiser": "lora_unet", "text_encoder": "lora_te"}
    assert naming("sd2").linear_projections
    assert naming("sdxl").linear_projections
    assert not naming("sd1").linear_projections
