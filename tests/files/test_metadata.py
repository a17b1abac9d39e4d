"""What files say about themselves, and what they must not say."""

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.metadata import PROFILES, describe, redact
from lora_diffusion.files.safe import open_safe
from tests.files.samples import sample_adapter, tiny_pipeline

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


def test_other_programs_find_the_hashes_of_the_model_specification_and_of_sd_scripts(tmp_path):
    import hashlib

    from safetensors.torch import load_file
    from safetensors.torch import save as library_save

    adapter = sample_adapter(pipeline=tiny_pipeline(block_out_channels=(64, 64, 64)), ranks=(16,))
    write_adapter(adapter, tmp_path / "a.safetensors", metadata={"ss_training_comment": 'über "alles"\n'})
    metadata = open_safe(tmp_path / "a.safetensors").metadata
    ours = {key: each for key, each in metadata.items() if key.startswith("ss_")}
    again = library_save(load_file(tmp_path / "a.safetensors"), ours)
    payload = again[8 + int.from_bytes(again[:8], "little") :]
    assert len(again) > 0x110000, "too small to say anything about the older hash"
    assert metadata["sshs_model_hash"] == hashlib.sha256(payload).hexdigest()
    assert metadata["modelspec.hash_sha256"] == f"0x{metadata['sshs_model_hash']}"
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(again[0x100000:0x110000]).hexdigest()[:8]
    assert metadata["modelspec.sai_model_spec"] == "1.0.1"


@pytest.mark.parametrize(
    ("family", "prediction", "says"),
    [
        ("sd1", "", "stable-diffusion-v1/lora"),
        ("sd2", "epsilon", "stable-diffusion-v2-512/lora"),
        ("sd2", "v", "stable-diffusion-v2-768-v/lora"),
        ("sdxl", "", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_the_architecture_is_the_word_of_the_model_specification(family, prediction, says):
    said = describe({}, name="a", family=family, metadata={"modelspec.prediction_type": prediction})
    assert said["modelspec.architecture"] == says


def test_stale_statements_about_the_tensors_are_replaced(tmp_path):
    write_adapter(sample_adapter(ranks=(2, 4)), tmp_path / "a.safetensors", metadata={"ss_network_dim": "128"})
    assert read_adapter(tmp_path / "a.safetensors").metadata["ss_network_dim"] == "Dynamic"
