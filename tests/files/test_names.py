"""Module names by grammar: any size of model, one way and back."""

import sys
import types

import pytest
import torch

from lora_diffusion.families import names
from lora_diffusion.families.names import Naming, canonical, component_of, dotted, naming, namings, path_of, underscored


def test_every_module_of_stable_diffusion_15_and_xl_survives_underscores():
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        models = [
            UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8),
            UNet2DConditionModel(
                block_out_channels=(32, 64, 64),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=64,
                attention_head_dim=8,
                cross_attention_dim=2048,
            ),
            CLIPTextModel(CLIPTextConfig()),
        ]
    paths = {path for model in models for path, module in model.named_modules() if hasattr(module, "weight")}
    assert len(paths) > 1000
    assert {dotted(underscored(path)) for path in paths} == paths


@pytest.mark.parametrize(
    "path", ["", "nonsense", "down_blocks_", "down_blocks__0", "to_q_", "_to_q", "down_blocks_0_x"]
)
def test_what_is_no_path_is_named(path):
    with pytest.raises(ValueError, match="no module path"):
        dotted(path)


@pytest.mark.parametrize(
    ("component", "path", "name"),
    [
        ("denoiser", "conv_in", "denoiser.conv_in"),
        ("text_encoder", "encoder.layers.0.mlp.fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"),
        ("text_encoder", "text_model.encoder.layers.0.mlp.fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"),
        ("text_encoder_2", "text_projection", "text_encoder_2.text_projection"),
    ],
)
def test_canonical_names_always_have_text_model(component, path, name):
    assert canonical(component, path) == name
    assert component_of(name) == component
    assert canonical(component, path_of(name)) == name


def test_a_family_brings_its_own_spelling_in_its_own_file(monkeypatch):
    own = Naming(
        family="other",
        prefixes={"denoiser": "lora_unet"},
        to_kohya=lambda path: path[::-1],
        from_kohya=lambda path: path[::-1],
        linear_projections=True,
    )
    module = types.ModuleType("lora_diffusion.families.other")
    module.NAMING = own
    monkeypatch.setitem(sys.modules, "lora_diffusion.families.other", module)
    monkeypatch.setattr(names, "_families", lambda: ("other",))
    assert naming("other") is own
    assert own in list(namings())
    assert naming("../evil") is naming("sd1")
