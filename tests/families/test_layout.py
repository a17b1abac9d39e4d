"""Single files of the real architectures, against the conversion that diffusers has of its own."""

import pytest
import torch

from lora_diffusion.families.layout import Place, layout_of_configs, layout_of_keys, sd2_texts, sdxl_texts
from lora_diffusion.families.names import canonical
from tests.families import real

FAMILIES = ("sd1", "sd2", "sdxl")

# As published with stable-diffusion-2-1 and stable-diffusion-xl-base-1.0.
KNOWN = {
    "sd2": {
        "text_encoder.text_model.embeddings.position_embedding.weight": "cond_stage_model.model.positional_embedding",
        "text_encoder.text_model.final_layer_norm.bias": "cond_stage_model.model.ln_final.bias",
        "text_encoder.text_model.encoder.layers.22.mlp.fc2.weight": (
            "cond_stage_model.model.transformer.resblocks.22.mlp.c_proj.weight"
        ),
        "denoiser.mid_block.attentions.0.proj_in.weight": "model.diffusion_model.middle_block.1.proj_in.weight",
    },
    "sdxl": {
        "denoiser.down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k.weight": (
            "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight"
        ),
        "denoiser.up_blocks.0.upsamplers.0.conv.weight": "model.diffusion_model.output_blocks.2.2.conv.weight",
        "denoiser.add_embedding.linear_2.weight": "model.diffusion_model.label_emb.0.2.weight",
        "text_encoder.text_model.encoder.layers.11.self_attn.q_proj.weight": (
            "conditioner.embedders.0.transformer.text_model.encoder.layers.11.self_attn.q_proj.weight"
        ),
        "text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj.bias": (
            "conditioner.embedders.1.model.transformer.resblocks.31.attn.out_proj.bias"
        ),
        "text_encoder_2.text_projection.weight": "conditioner.embedders.1.model.text_projection",
    },
}


@pytest.mark.parametrize(
    ("family", "total"), [("sd1", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684)], ids=FAMILIES
)
def test_the_denoiser_has_the_published_number_of_parameters(family, total):
    assert sum(each.numel() for each in real.modules(family)["denoiser"].parameters()) == total


@pytest.mark.parametrize(
    ("family", "component", "total"),
    [
        ("sd1", "text_encoder", 123_060_480),
        ("sd2", "text_encoder", 340_387_840),
        ("sdxl", "text_encoder", 123_060_480),
        ("sdxl", "text_encoder_2", 694_659_840),
        ("sdxl", "vae", 83_653_863),
    ],
)
def test_the_other_components_have_the_published_number_of_parameters(family, component, total):
    assert sum(each.numel() for each in real.modules(family)[component].parameters()) == total


@pytest.mark.parametrize(
    ("family", "ours", "original"),
    [(family, ours, original) for family, pairs in KNOWN.items() for ours, original in pairs.items()],
)
def test_names_are_the_published_ones(family, ours, original):
    layout = real.layout(family)
    assert layout.original(ours) == original
    assert layout.canonical(original) == ours


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_has_a_place_and_comes_back_in_its_shape(family):
    ours, layout, file = real.tensors(family), real.layout(family), real.original(family)
    assert None not in file
    back = {}
    for name, tensor in file.items():
        for key in layout.keys(name):
            place = layout.place(key)
            assert place.shape(tensor.shape) == ours[key].shape, key
            back[key] = place.ours(tensor)
    assert {key: each.shape for key, each in back.items()} == {key: each.shape for key, each in ours.items()}
    assert layout_of_keys(file) == layout


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_reads_the_same_denoiser_out_of_our_keys(family):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = real.modules(family)["denoiser"]
    found = convert_ldm_unet_checkpoint(dict(real.original(family)), config=dict(unet.config))
    mine = {key.removeprefix("denoiser."): each for key, each in real.tensors(family).items() if "denoiser." in key}
    assert found.keys() == mine.keys()
    file, layout = real.original(family), real.layout(family)
    numbered = {name: torch.tensor(float(at)) for at, name in enumerate(file)}
    moved = convert_ldm_unet_checkpoint(numbered, config=dict(unet.config))
    assert {key: float(each) for key, each in moved.items()} == {
        key: float(numbered[layout.original(f"denoiser.{key}")]) for key in mine
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_reads_the_same_vae_out_of_our_keys(family):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    file, layout = real.original(family), real.layout(family)
    keys = [key for key in real.tensors(family) if key.startswith("vae.")]
    originals = {layout.original(key): key for key in keys}
    assert len(originals) == len(keys)
    numbered = {name: torch.full((1, 1, 1, 1), float(at)) for at, name in enumerate(file) if name in originals}
    moved = convert_ldm_vae_checkpoint(numbered, config=dict(real.modules(family)["vae"].config))
    assert {key: float(each.flatten()[0]) for key, each in moved.items()} == {
        key.removeprefix("vae."): float(numbered[layout.original(key)].flatten()[0]) for key in keys
    }


@pytest.mark.parametrize(
    ("family", "component", "prefix"),
    [
        ("sd2", "text_encoder", "cond_stage_model.model."),
        ("sdxl", "text_encoder_2", "conditioner.embedders.1.model."),
    ],
)
def test_diffusers_reads_the_same_open_clip_encoder_out_of_our_keys(family, component, prefix):
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    layout = real.layout(family)
    wide = {key: each.shape for key, each in real.tensors(family).items() if key.startswith(f"{component}.")}
    ours = {key: _numbers(at, _small(shape)) for at, (key, shape) in enumerate(wide.items())}
    names = dict.fromkeys(layout.original(key) for key in ours)
    file = {name: layout.joined(name, [ours[key] for key in layout.keys(name)]) for name in names}

    class Model:
        class config:
            hidden_size = 4

    found = convert_open_clip_checkpoint(Model, file, prefix=prefix)
    assert {canonical(component, key) for key in found} == ours.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, ours[canonical(component, key)]), key


def _small(shape):
    return [4 for _ in shape]


def _numbers(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_last_layer_and_projection_of_stable_diffusion_2_belong_to_no_component():
    layout = real.layout("sd2")
    for name in ("transformer.resblocks.23.ln_1.weight", "text_projection", "logit_scale"):
        assert layout.keys(f"cond_stage_model.model.{name}") == ()
    whole = [f"cond_stage_model.model.transformer.resblocks.{layer}.ln_1.weight" for layer in range(24)]
    assert layout_of_keys([*real.original("sd2"), *whole]) == layout


@pytest.mark.parametrize("texts", [sd2_texts(2), sdxl_texts(3)])
def test_a_projection_stored_as_one_is_taken_apart_and_put_together_bit_for_bit(texts):
    layout = layout_of_configs({"layers_per_block": 1}, {}, texts)
    name = f"{texts[-1].prefix}.transformer.resblocks.1.attn.in_proj_weight"
    stored = torch.randn(12, 4).to(torch.float16)
    keys = layout.keys(name)
    assert [key.rpartition(".self_attn.")[2] for key in keys] == ["q_proj.weight", "k_proj.weight", "v_proj.weight"]
    parts = [layout.place(key).ours(stored) for key in keys]
    assert torch.equal(parts[1], stored[4:8])
    assert torch.equal(layout.joined(name, parts), stored)
    assert layout.joined_shape(name, [part.shape for part in parts]) == (12, 4)


def test_a_transposed_projection_is_turned_both_ways():
    layout = layout_of_configs({"layers_per_block": 1}, {}, sdxl_texts(1))
    key, stored = "text_encoder_2.text_projection.weight", torch.randn(3, 5)
    ours = layout.place(key).ours(stored)
    assert torch.equal(ours, stored.T)
    assert torch.equal(layout.joined(layout.original(key), [ours]), stored)


def test_projections_stored_as_kernels_are_read_as_matrices():
    layout = layout_of_configs({"layers_per_block": 1}, {}, sd2_texts(1))
    place = layout.place("denoiser.mid_block.attentions.0.proj_in.weight")
    assert place.ours(torch.ones(4, 4, 1, 1)).shape == place.shape((4, 4, 1, 1)) == (4, 4)
    assert Place(key="scalar").shape(()) == ()
