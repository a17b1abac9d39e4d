"""What a single file of Stable Diffusion 2 predicts, by everything that can tell it."""

import pytest

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import detect, family
from tests.families.headers import SD2, unet, write


def predicts(path):
    return family("sd2").configs(path)["scheduler"]["prediction_type"]


@pytest.mark.parametrize(
    ("metadata", "type_", "side"),
    [
        ({"modelspec.prediction_type": "v"}, "v_prediction", 768),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon", 512),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction", 768),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon", 512),
    ],
)
def test_metadata_tells_it(metadata, type_, side, tmp_path):
    path = write(tmp_path / "a.safetensors", SD2, unet(1024), metadata=metadata)
    assert detect(path).name == "sd2"
    assert predicts(path) == type_
    assert family("sd2").geometry(path) == (side, 64)


@pytest.mark.parametrize(
    ("name", "type_"),
    [("v2-1_768-ema-pruned", "v_prediction"), ("512-base-ema", "epsilon"), ("v2-1_512-nonema-pruned", "epsilon")],
)
def test_the_published_file_names_tell_it(name, type_, tmp_path):
    assert predicts(write(tmp_path / f"{name}.safetensors", SD2, unet(1024))) == type_


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', "v_prediction"),
        ("model:\n  params:\n    parameterization: eps\n", "epsilon"),
        ("model:\n  params:\n    timesteps: 1000\n", "epsilon"),
    ],
)
def test_a_config_beside_the_file_tells_it_before_its_name(text, type_, tmp_path):
    path = write(tmp_path / "my-768-and-512.safetensors", SD2, unet(1024))
    path.with_suffix(".yaml").write_text(text)
    assert predicts(path) == type_


def test_a_marker_key_tells_it(tmp_path):
    assert predicts(write(tmp_path / "a.safetensors", SD2, unet(1024), {"v_pred": (0,)})) == "v_prediction"


def test_a_file_that_does_not_tell_is_refused_with_the_way_to_say_it(tmp_path):
    path = write(tmp_path / "model-1024.safetensors", SD2, unet(1024))
    with pytest.raises(BaseNotFound, match="predicts the noise or v") as caught:
        family("sd2").geometry(path)
    assert "model-1024.yaml" in caught.value.hint
