"""Relatives of the families: recognised, and refused in one sentence; distilled models accepted with a warning."""

import json
import logging

import pytest
import torch

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import detect, family
from tests import tiny
from tests.families.headers import REFINER, SD1, SD2, SDXL, UNET, unet, write


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("sd1", (SD1, unet(768))), ("sd2", (SD2, unet(1024))), ("sdxl", (SDXL, unet(2048))), ("sd1", (SD1, unet(40)))],
)
def test_a_single_file_is_told_by_its_text_encoders_and_width(name, shapes, tmp_path):
    assert detect(write(tmp_path / "a.safetensors", *shapes)).name == name


@pytest.mark.parametrize(
    ("says", "shapes"),
    [
        ("an inpainting model", (SD1, unet(768, taken=9))),
        ("an inpainting model", (SDXL, unet(2048, taken=9))),
        ("a depth-to-image model", (SD2, unet(1024, taken=5))),
        ("an upscaler", (SD2, unet(1024, taken=7))),
        ("a picture-editing model", (SD1, unet(768, taken=8))),
        ("a model of 12 channels in, 4 out", (SD1, unet(768, taken=12))),
        ("the refiner of Stable Diffusion XL", (REFINER, unet(1280))),
        ("EDM noise schedule", (SDXL, unet(2048), {"edm_mean": (1, 4, 1, 1)})),
        ("a latent consistency model", (SDXL, unet(2048), {f"{UNET}.time_embed.cond_proj.weight": (8, 8)})),
        ("an image-variation model", (SD2, unet(1024), {f"{UNET}.label_emb.0.0.weight": (8, 8)})),
    ],
)
def test_a_single_file_of_another_kind_is_named(says, shapes, tmp_path):
    path = write(tmp_path / "a.safetensors", *shapes)
    for name in ("auto", "sdxl"):
        with pytest.raises(BaseNotFound, match=says):
            detect(path, name)


@pytest.mark.parametrize(
    ("says", "index", "config"),
    [
        ("an inpainting model", "StableDiffusionXLInpaintPipeline", {}),
        ("the refiner", "StableDiffusionXLImg2ImgPipeline", {"cross_attention_dim": 1280}),
        ("an inpainting model", "StableDiffusionPipeline", {"in_channels": 9, "out_channels": 4}),
        ("a latent consistency model", "StableDiffusionXLPipeline", {"time_cond_proj_dim": 256}),
        ("an image-variation model", "StableDiffusionPipeline", {"class_embed_type": "projection"}),
    ],
)
def test_a_folder_of_another_kind_is_named(says, index, config, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": index}))
    with pytest.raises(BaseNotFound, match=says):
        detect(tmp_path)


@pytest.mark.parametrize(("name", "warned"), [("sdxl-turbo", True), ("DreamLightning_v2", True), ("hyperreal", False)])
def test_a_distilled_model_is_accepted_without_guidance_and_said_to_be_one(name, warned, tmp_path, caplog):
    folder = tiny.sdxl(tmp_path / name)
    with caplog.at_level(logging.WARNING, logger="lora_diffusion"):
        components = family("sdxl").load(folder, dtype=torch.float32, device=torch.device("cpu"))
    assert (components.guidance == 1.0) is warned
    assert ("few steps" in caplog.text) is warned
