"""Which family a file is for, by its names and widths, and files that are for no family of ours."""

import pytest
import torch

from lora_diffusion.errors import UnknownDialect
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.inspect import inspect_adapter
from tests.files.samples import save

_MID = "lora_unet_mid_block_attentions_0_transformer_blocks"
_TEXT = "text_model_encoder_layers_0"


def _file(path, module, inside=8, metadata=None, leaves=("lora_down.weight", "lora_up.weight")):
    save({f"{module}.{leaves[0]}": torch.ones(2, inside), f"{module}.{leaves[1]}": torch.ones(8, 2)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("module", "inside", "family"),
    [
        (f"{_MID}_1_attn1_to_q", 1280, "sdxl"),
        ("lora_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q", 1280, "sdxl"),
        (f"{_MID}_0_attn1_to_q", 1280, "sd1"),
        (f"lora_te1_{_TEXT}_self_attn_q_proj", 768, "sdxl"),
        (f"lora_te2_{_TEXT}_self_attn_q_proj", 1280, "sdxl"),
        (f"lora_te_{_TEXT}_self_attn_q_proj", 768, "sd1"),
        (f"lora_te_{_TEXT}_mlp_fc1", 1024, "sd2"),
        (f"lora_te_{_TEXT}_mlp_fc2", 4096, "sd2"),
        (f"lora_te_{_TEXT}_mlp_fc2", 3072, "sd1"),
    ],
)
def test_names_and_widths_tell_the_family(module, inside, family, tmp_path):
    assert read_adapter(_file(tmp_path / "a.safetensors", module, inside)).family == family


@pytest.mark.parametrize(("inside", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (8, "sdxl")])
def test_the_denoiser_tells_more_than_the_first_encoder_of_two(inside, family, tmp_path):
    """diffusers writes the one text encoder of Stable Diffusion 1 and 2 as lora_te1."""
    modules = {f"lora_te1_{_TEXT}_self_attn_q_proj": 768, f"{_MID}_0_attn2_to_k": inside}
    tensors = {f"{name}.lora_down.weight": torch.ones(2, width) for name, width in modules.items()}
    tensors |= {f"{name}.lora_up.weight": torch.ones(8, 2) for name in modules}
    save(tensors, tmp_path / "a.safetensors")
    assert read_adapter(tmp_path / "a.safetensors").family == family
    assert inspect_adapter(tmp_path / "a.safetensors").findings == ()


@pytest.mark.parametrize(
    ("said", "module", "inside", "contradicts"),
    [
        ("sd_v1", f"{_MID}_1_attn1_to_q", 1280, True),
        ("sd_v1", f"lora_te1_{_TEXT}_mlp_fc1", 768, True),
        ("sd_v1", f"lora_te_{_TEXT}_mlp_fc2", 4096, True),
        ("flux1", f"{_MID}_0_attn1_to_q", 1280, True),
        ("sdxl_base_v1-0", f"{_MID}_1_attn1_to_q", 1280, False),
        ("sdxl_base_v1-0", f"lora_te1_{_TEXT}_mlp_fc1", 768, False),
        ("sd_v1", f"{_MID}_0_attn1_to_q", 1280, False),
    ],
)
def test_metadata_that_contradicts_the_names_is_an_anomaly(said, module, inside, contradicts, tmp_path):
    path = _file(tmp_path / "a.safetensors", module, inside, {"ss_base_model_version": said})
    assert any("the metadata says" in line for line in inspect_adapter(path).anomalies) == contradicts


@pytest.mark.parametrize(
    ("module", "leaves", "kind"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", ("lora_down.weight", "lora_up.weight"), "a FLUX adapter"),
        ("lora_unet_single_blocks_3_linear1", ("lora_down.weight", "lora_up.weight"), "a FLUX adapter"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", ("lora_A.weight", "lora_B.weight"), "a FLUX adapter"),
        ("transformer.single_transformer_blocks.0.attn.to_q", ("lora_A.weight", "lora_B.weight"), "a FLUX adapter"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", ("lora_down.weight", "lora_up.weight"), "Stable Diffusion 3"),
        ("transformer.transformer_blocks.0.attn.to_q", ("lora_A.weight", "lora_B.weight"), "diffusion transformer"),
        (
            "base_model.model.transformer_blocks.0.attn.to_q",
            ("lora_A.weight", "lora_B.weight"),
            "diffusion transformer",
        ),
        ("diffusion_model.blocks.0.self_attn.q", ("lora_A.weight", "lora_B.weight"), "diffusion transformer"),
        ("diffusion_model.layers.0.attention.to_q", ("lora_A.weight", "lora_B.weight"), "diffusion transformer"),
        ("lora_unet_blocks_0_self_attn_q", ("lora_down.weight", "lora_up.weight"), "diffusion transformer"),
        ("lora_unet_transformer_blocks_0_attn_to_q", ("lora_down.weight", "lora_up.weight"), "diffusion transformer"),
        (
            "unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q",
            ("lora_A.weight", "lora_B.weight"),
            "a motion adapter",
        ),
        (f"{_MID}_0_attn1_to_q", ("oft_blocks", "alpha"), "an OFT adapter"),
        ("base_model.model.mid_block.attentions.0.proj_in", ("boft_R", "boft_s"), "a BOFT adapter"),
        (f"{_MID}_0_attn1_to_q", ("a1.weight", "b1.weight"), "a GLoRA adapter"),
        (f"{_MID}_0_attn1_to_q", ("weight", "on_input"), "an IA3 adapter"),
    ],
)
def test_a_healthy_adapter_of_another_kind_is_named(module, leaves, kind, tmp_path):
    path = _file(tmp_path / "a.safetensors", module, leaves=leaves)
    with pytest.raises(UnknownDialect, match=rf"a\.safetensors: this is .*{kind}.* not supported; the first") as caught:
        read_adapter(path)
    assert module.removeprefix("base_model.model.") in str(caught.value)
    assert "LoRA, DoRA, LoHa, LoKr" in caught.value.hint


def test_inspecting_an_adapter_of_another_kind_says_so_once(tmp_path):
    path = _file(tmp_path / "a.safetensors", "lora_unet_double_blocks_0_img_attn_qkv")
    (finding,) = inspect_adapter(path).findings
    assert (finding.code, finding.reason) == ("unsupported", "this is a FLUX adapter, which is not supported")
