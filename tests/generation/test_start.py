"""Starting from a picture: the result lies between it and what noise alone gives, and diffusers does the same."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_tools.errors import UnreadableImage
from datasets_tools.image import to_pixels
from lora_diffusion.cli import run
from lora_diffusion.errors import UsageError
from lora_diffusion.generation.generator import Generator
from lora_diffusion.generation.picture import read_settings
from lora_diffusion.generation.samplers import sampler_for, samplers
from lora_diffusion.generation.start import Start, fitting_size, late_steps, read_start

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def toy(base):
    with Generator.open(str(base), precision="no", device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def start(pictures):
    return read_start(pictures / "00.png", 0.5)


def stronger(start, strength):
    return Start(image=start.image, sha256=start.sha256, strength=strength)


@pytest.mark.parametrize("name", [each.name for each in samplers()])
def test_it_is_what_the_pipeline_of_diffusers_draws(toy, start, name):
    from diffusers import StableDiffusionImg2ImgPipeline

    ours = toy.generate("a star", seed=3, steps=10, guidance=3.0, sampler=name, start=start, size=(64, 64)).image
    parts = dict(toy._pipeline.components) | {"scheduler": sampler_for(name, toy._components.scheduler, steps=10)[0]}
    peer = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    peer.set_progress_bar_config(disable=True)
    with torch.no_grad():
        latents = toy._family.encode_images(toy._components, torch.from_numpy(to_pixels(start.image))[None])
        drawn = peer(
            prompt="a star", negative_prompt="", image=latents, strength=0.5, num_inference_steps=10,
            guidance_scale=3.0, generator=torch.Generator("cpu").manual_seed(3),
        )  # fmt: skip
    assert np.abs(np.asarray(ours, int) - np.asarray(drawn.images[0], int)).max() <= 1


def test_more_strength_goes_further_from_the_picture():
    icon = Image.new("RGB", (128, 128), (40, 90, 200))
    start = Start(image=icon, sha256="0" * 64, strength=0.5)
    away = []
    with Generator.open("demo", precision="no", device="cpu") as demo:
        for strength in (0.2, 0.6, 1.0):
            drawn = demo.generate("a house icon", seed=1, steps=10, start=stronger(start, strength))
            away.append(np.abs(np.asarray(drawn.image, float) - np.asarray(icon, float)).mean())
    assert away[0] < away[1] < away[2]
    assert away[0] < 25


def test_the_same_start_draws_the_same_picture_in_a_batch_too(toy, start):
    alone = [toy.generate("a star", seed=seed, steps=6, start=start).image for seed in (1, 2)]
    batch = toy.generate_many(["a star"] * 2, seeds=[1, 2], steps=6, start=start)
    for one, other in zip(alone, batch, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other.image, int)).max() <= 1


def test_settings_say_which_picture_and_how_far_and_the_file_keeps_them(toy, pictures, start, tmp_path):
    drawn = toy.generate("a star", seed=1, steps=4, start=start)
    found = read_settings(drawn.save(tmp_path / "a.png"))
    assert found.start == hashlib.sha256((pictures / "00.png").read_bytes()).hexdigest()
    assert found.strength == 0.5
    assert "Denoising strength: 0.5" in found.as_text()


def test_only_the_share_of_the_steps_is_taken(toy, start):
    done = []
    toy.generate("a star", seed=1, steps=10, start=start, on_step=lambda at, of: done.append((at, of)))
    assert done == [(each, 5) for each in range(1, 6)]
    assert (late_steps(20, 0.01), late_steps(20, 0.3), late_steps(20, 1.0)) == (1, 6, 20)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((500, 500), (128, 128)), ((1000, 500), (176, 96)), ((10, 4000), (16, 512)), ((1, 1), (128, 128))],
)
def test_the_size_follows_the_shape_of_the_picture(size, fitted):
    assert fitting_size(Image.new("RGB", size), resolution=128, step=16) == fitted


def test_a_picture_of_another_shape_is_cropped_not_squeezed(toy, start):
    wide = Start(image=start.image.resize((128, 64)), sha256=start.sha256, strength=0.5)
    assert toy.generate("a star", seed=1, steps=4, start=wide, size=(64, 64)).image.size == (64, 64)
    assert toy.generate("a star", seed=1, steps=4, start=wide).image.width > 64


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(start, strength):
    with pytest.raises(UsageError, match="strength"):
        stronger(start, strength)


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UnreadableImage):
        read_start(tmp_path / "a.png")


def test_the_command_line_starts_from_a_picture(base, pictures, tmp_path):
    settings = ["--base", str(base), "--prompt", "a star", "--steps", "4", "--precision", "no"]
    more = ["--image", str(pictures / "00.png"), "--strength", "0.5", "--sampler", "euler"]
    assert run(["generate", *settings, *more, "--out", str(tmp_path / "a.png")]) == 0
    found = read_settings(tmp_path / "a.png")
    assert (found.strength, found.sampler, len(found.start)) == (0.5, "Euler", 64)
