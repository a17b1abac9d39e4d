"""What files say about themselves, and what they must not say."""

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.metadata import PROFILES, redact
from tests.files.samples import sample_adapter

PRIVATE = {
    "ss_tag_frequency": '{"10_ann": {"ann smiling": 3}}',
    "ss_dataset_dirs": '{"10_ann": {"n_repeats": 10}}',
    "ss_sd_model_name": "/home/ann/models/base.safetensors",
    "ss_vae_name": r"C:\Users\ann\vae.pt",
    "modelspec.description": "made in ~/work/brand, ask ann@example.com",
    "modelspec.thumbnail": "data:image/jpeg;base64,AAAA",
    "lora_diffusion.captions": "a red apple",
    "ss_training_comment": "for Ann",
    "some_user_name": "ann",
}
HARMLESS = {
    "modelspec.title": "Blueprint",
    "modelspec.trigger_phrase": "blueprint style",
    "modelspec.license": "CC-BY-4.0",
    "ss_learning_rate": "1e-4",
    "lora_diffusion.family": "sd1",
}


def test_public_files_keep_only_what_a_stranger_needs():
    assert redact({**PRIVATE, **HARMLESS}, "public") == HARMLESS


def test_team_files_lose_captions_paths_and_people_but_keep_the_rest():
    kept = redact({**PRIVATE, **HARMLESS, "ss_lowram": "False"}, "team")
    assert {**HARMLESS, "ss_lowram": "False"}.items() <= kept.items()
    assert not any(word in " ".join(kept.values()).lower() for word in ("ann", "/home", "apple"))


def test_private_files_keep_everything():
    assert redact({**PRIVATE, **HARMLESS}, "private") == {**PRIVATE, **HARMLESS}


def test_an_unknown_profile_lists_the_known():
    with pytest.raises(UsageError) as caught:
        redact({}, "secret")
    assert all(profile in caught.value.hint for profile in PROFILES)


def test_a_written_file_says_what_it_is(tmp_path):
    write_adapter(sample_adapter(ranks=(4,), alphas=(2.0,)), tmp_path / "a.safetensors", metadata=HARMLESS)
    found = read_adapter(tmp_path / "a.safetensors")
    assert found.trigger == "blueprint style"
    assert {
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "Blueprint",
        "ss_base_model_version": "sd_v1",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2",
        "ss_network_args": '{"conv_dim": "4"}',
        "lora_diffusion.family": "sd1",
    }.items() <= found.metadata.items()


def test_stale_statements_about_the_tensors_are_replaced(tmp_path):
    write_adapter(sample_adapter(ranks=(2, 4)), tmp_path / "a.safetensors", metadata={"ss_network_dim": "128"})
    assert read_adapter(tmp_path / "a.safetensors").metadata["ss_network_dim"] == "Dynamic"
