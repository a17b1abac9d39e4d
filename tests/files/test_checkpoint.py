"""Base models under canonical names, from folders and single files of any size."""

import json
import shutil

import pytest
import torch

from lora_diffusion.errors import BaseNotFound, CorruptFile, FileError
from lora_diffusion.families.layout import layout_of_configs, layout_of_keys
from lora_diffusion.families.names import dotted, path_of, underscored
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.merging import merge
from tests.files.samples import BASE, pipeline_folder, save

_FOUR = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
# As published with Stable Diffusion 1.5.
_KNOWN = {
    "denoiser.conv_in.weight": "model.diffusion_model.input_blocks.0.0.weight",
    "denoiser.down_blocks.0.downsamplers.0.conv.bias": "model.diffusion_model.input_blocks.3.0.op.bias",
    "denoiser.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    ),
    "denoiser.down_blocks.3.resnets.1.conv2.weight": "model.diffusion_model.input_blocks.11.0.out_layers.3.weight",
    "denoiser.mid_block.resnets.1.norm1.bias": "model.diffusion_model.middle_block.2.in_layers.0.bias",
    "denoiser.up_blocks.0.upsamplers.0.conv.weight": "model.diffusion_model.output_blocks.2.1.conv.weight",
    "denoiser.up_blocks.1.upsamplers.0.conv.weight": "model.diffusion_model.output_blocks.5.2.conv.weight",
    "denoiser.up_blocks.3.resnets.2.conv_shortcut.weight": (
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight"
    ),
    "denoiser.time_embedding.linear_2.weight": "model.diffusion_model.time_embed.2.weight",
    "denoiser.conv_out.weight": "model.diffusion_model.out.2.weight",
    "vae.encoder.down_blocks.2.downsamplers.0.conv.weight": "first_stage_model.encoder.down.2.downsample.conv.weight",
    "vae.decoder.up_blocks.0.resnets.2.conv1.weight": "first_stage_model.decoder.up.3.block.2.conv1.weight",
    "vae.decoder.up_blocks.3.resnets.0.conv_shortcut.bias": (
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.bias"
    ),
    "vae.decoder.mid_block.attentions.0.to_out.0.weight": "first_stage_model.decoder.mid.attn_1.proj_out.weight",
    "vae.post_quant_conv.weight": "first_stage_model.post_quant_conv.weight",
    "text_encoder.text_model.embeddings.token_embedding.weight": (
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    ),
}


def _configs_of_15():
    unet = {"layers_per_block": 2, "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
    return unet, {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}


@pytest.mark.parametrize(("ours", "original"), _KNOWN.items())
def test_names_of_stable_diffusion_15_are_the_published_ones(ours, original):
    layout = layout_of_configs(*_configs_of_15())
    assert layout.original(ours) == original
    assert layout.canonical(original) == ours


def test_all_keys_of_stable_diffusion_15_convert_there_and_back():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    keys = [f"denoiser.{key}" for key in unet.state_dict()] + [f"vae.{key}" for key in vae.state_dict()]
    layout = layout_of_configs(*_configs_of_15())
    originals = [layout.original(key) for key in keys]
    assert len(set(originals)) == len(keys) == 686 + 248
    assert [layout.canonical(key) for key in originals] == keys
    assert layout_of_keys(originals) == layout


def test_every_module_with_weights_survives_the_underscores_of_kohya():
    for key in open_checkpoint(BASE).tensors:
        path = path_of(key).removesuffix(".weight").removesuffix(".bias")
        assert dotted(underscored(path)) == path


def test_the_layout_is_read_from_the_keys_of_any_size(tmp_path):
    base = open_checkpoint(BASE)
    assert layout_of_keys(base.layout.original(key) for key in base.tensors) == base.layout


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(pipeline_folder(), tmp_path / "base")


def _tensors(file):
    from safetensors.torch import load_file

    return load_file(file)


def _same(one, other):
    assert set(one.tensors) == set(other.tensors)
    for key in one.tensors:
        assert torch.equal(one.tensor(key), other.tensor(key)), key


def test_the_fp16_variant_is_read_where_there_is_no_other(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    _same(open_checkpoint(folder), open_checkpoint(pipeline_folder()))


def test_shards_are_one_component(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = _tensors(weights)
    names = {key: f"shard-{at % 2}.safetensors" for at, key in enumerate(tensors)}
    for shard in set(names.values()):
        save({key: each for key, each in tensors.items() if names[key] == shard}, weights.with_name(shard))
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps({"weight_map": names}))
    weights.unlink()
    _same(open_checkpoint(folder), open_checkpoint(pipeline_folder()))


def test_the_attention_of_old_autoencoders_is_read(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = _tensors(weights)
    for new, name in old.items():
        tensors = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): each for key, each in tensors.items()}
    assert any(".query." in key for key in tensors)
    save(tensors, weights)
    _same(open_checkpoint(folder), open_checkpoint(pipeline_folder()))


def test_text_encoders_with_and_without_text_model_are_the_same(folder):
    weights = folder / "text_encoder" / "model.safetensors"
    tensors = {key.removeprefix("text_model."): each for key, each in _tensors(weights).items()}
    for prefix in ("", "text_model."):
        save({prefix + key: each for key, each in tensors.items()}, weights)
        _same(open_checkpoint(folder), open_checkpoint(pipeline_folder()))


def test_a_single_file_without_text_model_is_read_with_it(tmp_path):
    merge(pipeline_folder(), [], tmp_path / "good.safetensors")
    tensors = {key.replace(".text_model.", "."): each for key, each in _tensors(tmp_path / "good.safetensors").items()}
    save(tensors, tmp_path / "bad.safetensors")
    _same(open_checkpoint(tmp_path / "bad.safetensors"), open_checkpoint(pipeline_folder()))


def test_a_folder_without_safetensors_says_that_pickles_stay_closed(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(BaseNotFound) as caught:
        open_checkpoint(folder)
    assert "pickled" in caught.value.hint


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("conditioner.embedders.1.model.ln_final.weight", "no checkpoint"),
        ("lora_unet_conv_in.alpha", "no checkpoint"),
    ],
)
def test_other_files_are_named_for_what_they_are(key, says, tmp_path):
    save({key: torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(BaseNotFound, match=says):
        open_checkpoint(tmp_path / "a.safetensors")


def test_nothing_there_and_junk_are_our_errors(tmp_path, folder):
    with pytest.raises(BaseNotFound):
        open_checkpoint(tmp_path / "none")
    (tmp_path / "junk.safetensors").write_bytes(b"\x80\x04" * 20)
    with pytest.raises(FileError):
        open_checkpoint(tmp_path / "junk.safetensors")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(CorruptFile):
        open_checkpoint(folder)
