"""Stable Diffusion XL: what its denoiser is told, its second tokenizer, and a VAE that fp16 cannot hold."""

import pytest
import torch

from lora_diffusion.families import detect, family
from lora_diffusion.families.sdxl import StableDiffusionXL
from tests import tiny
from tests.families.headers import SDXL, unet, write

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture(scope="module")
def components(folder):
    return family("sdxl").load(folder, dtype=torch.float32, device=DEVICE)


def answer(components, **sizes):
    draw = torch.Generator().manual_seed(0)
    each = family("sdxl")
    with torch.no_grad():
        text = each.encode_tokens(components, each.tokenize(components, ["a star"]))
        ids = {key: value.unsqueeze(0) for key, value in each.size_ids(**sizes).items()} if sizes else {}
        return each.predict(components, torch.randn(1, 4, 8, 12, generator=draw), torch.tensor([500]), {**text, **ids})


def test_sizes_are_told_in_the_order_of_the_pipeline(components):
    pipeline = family("sdxl").pipeline(components)
    width = components.text_encoders["text_encoder_2"].config.projection_dim
    theirs = pipeline._get_add_time_ids((300, 400), (5, 7), (32, 48), torch.float32, width)
    ours = family("sdxl").size_ids(original=(400, 300), crop=(7, 5), target=(48, 32))
    assert torch.equal(ours["time_ids"], theirs[0])


@pytest.mark.parametrize("other", [{"original": (90, 60)}, {"crop": (4, 0)}, {"crop": (0, 4)}, {"target": (32, 48)}])
def test_another_size_or_crop_is_answered_otherwise(components, other):
    sizes = {"original": (48, 32), "crop": (0, 0), "target": (48, 32)}
    assert not torch.equal(answer(components, **sizes), answer(components, **{**sizes, **other}))


def test_without_sizes_a_picture_counts_as_whole(components):
    assert torch.equal(answer(components), answer(components, original=(48, 32), crop=(0, 0), target=(48, 32)))


def test_sizes_among_the_tokens_reach_the_denoiser(components):
    each = family("sdxl")
    ids = each.size_ids((9, 8), (7, 6), (5, 4))["time_ids"].unsqueeze(0)
    told = each.encode_tokens(components, {**each.tokenize(components, ["a star"]), "time_ids": ids})
    assert torch.equal(told["time_ids"], ids)


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_other_families_are_told_no_size(name):
    assert family(name).size_ids((9, 8), (7, 6), (5, 4)) == {}


def test_gradients_reach_both_text_encoders(components):
    each = family("sdxl")
    for encoder in components.text_encoders.values():
        encoder.requires_grad_(True)
    try:
        told = each.encode_tokens(components, each.tokenize(components, ["a star"]))
        (told["context"].square().mean() + told["pooled"].square().mean()).backward()
        for encoder in components.text_encoders.values():
            weights = [value for key, value in encoder.named_parameters() if "layers.0" in key and "weight" in key]
            assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights)
    finally:
        for encoder in components.text_encoders.values():
            encoder.zero_grad(set_to_none=True)
            encoder.requires_grad_(False)


def test_no_target_of_a_set_is_left_without_a_gradient(folder):
    from lora_diffusion.adapters.inject import inject
    from lora_diffusion.adapters.spec import AdapterSpec

    each = family("sdxl")
    components = each.load(folder, dtype=torch.float32, device=DEVICE)
    spec = AdapterSpec(rank=1, targets=("text", "text-mlp", "attention"))
    inject(each.slots(components), spec, name="a", target_sets=each.targets)
    told = each.encode_tokens(components, each.tokenize(components, ["a star"]))
    each.predict(components, torch.randn(1, 4, 8, 8), torch.tensor([500]), told).square().mean().backward()
    trained = [
        (key, value) for part in components.modules().values() for key, value in part.named_parameters()
        if value.requires_grad
    ]  # fmt: skip
    assert len(trained) > 100
    assert not [key for key, value in trained if value.grad is None]


def test_the_second_tokenizer_fills_up_with_zeros(components, folder, tmp_path):
    each = family("sdxl")
    tokens = each.tokenize(components, ["a star"])
    assert tokens["text_encoder"][0, -1] == components.tokenizers["text_encoder"].eos_token_id
    assert tokens["text_encoder_2"][0, -1] == 0
    file = tiny.single_file(folder, tmp_path / "a.safetensors")
    named = each.tokenizers(file, named=str(folder / "tokenizer"))
    for tokenizers in (each.tokenizers(file), named):
        found = tokenizers["text_encoder_2"]("a star", padding="max_length", max_length=32).input_ids
        assert found == tokens["text_encoder_2"][0].tolist()


def overflowing(folder):
    """A base model whose VAE passes the largest fp16, 65504, inside."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(folder / "vae")
    with torch.no_grad():
        for half in (vae.encoder, vae.decoder):
            half.conv_in.weight.fill_(4e4)
    vae.save_pretrained(folder / "vae")
    return folder


def test_the_vae_stays_finite_where_the_rest_is_fp16(tmp_path):
    each = family("sdxl")
    folder = overflowing(tiny.sdxl(tmp_path / "base"))
    components = each.load(folder, dtype=torch.float16, device=DEVICE)
    assert components.denoiser.dtype == torch.float16
    assert components.vae.dtype == torch.float32
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    assert each.encode_images(components, pixels).isfinite().all()
    assert components.vae.decode(torch.ones(1, 4, 16, 16, dtype=torch.float16)).sample.isfinite().all()
    plain = each.load(folder, dtype=torch.float32, device=DEVICE).vae.half()
    assert not plain.encode(pixels.half()).latent_dist.mean.isfinite().all()


def test_bf16_is_left_as_it_is(folder):
    assert family("sdxl").load(folder, dtype=torch.bfloat16, device=DEVICE).vae.dtype == torch.bfloat16


def test_a_picture_is_drawn_in_fp16(folder):
    components = family("sdxl").load(folder, dtype=torch.float16, device=DEVICE)
    pipeline = family("sdxl").pipeline(components)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline("a star", num_inference_steps=2, width=64, height=64, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("markers", "metadata", "type_", "zero_snr"),
    [
        ({}, {}, "epsilon", False),
        ({"v_pred": (0,)}, {}, "v_prediction", False),
        ({"v_pred": (0,), "ztsnr": (0,)}, {}, "v_prediction", True),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
    ],
)
def test_a_file_that_predicts_v_is_told_by_marker_keys_or_metadata(markers, metadata, type_, zero_snr, tmp_path):
    path = write(tmp_path / "a.safetensors", SDXL, unet(2048), markers, metadata=metadata)
    found = detect(path)
    assert isinstance(found, StableDiffusionXL)
    scheduler = found.configs(path)["scheduler"]
    assert scheduler["prediction_type"] == type_
    assert scheduler.get("rescale_betas_zero_snr", False) is zero_snr
    assert found.geometry(path) == (1024, 32)
