"""A picture or mask that changes between the scan and its encoding is refused: the cache is shared by all runs."""

import pytest
import torch
from PIL import Image

from datasets_tools.cache import TensorCache
from lora_diffusion.errors import PlanError
from lora_diffusion.training.encode import Encoder
from lora_diffusion.training.samples import load_sources
from tests import tiny


@pytest.fixture
def encoder(loaded, tmp_path):
    family, components = loaded

    def make(plan):
        return Encoder(family, components, TensorCache(tmp_path / "cache"), plan=plan)

    return make


def scanned(plan):
    return load_sources(plan, resolution=64, step=8).style.samples[0]


def test_a_picture_that_changed_after_the_scan_is_not_kept_under_its_old_name(encoder, tmp_path):
    folder = tiny.pictures(tmp_path / "p", 1)
    before = (folder / "00.png").read_bytes()
    plan = tiny.plan("demo", folder, tmp_path / "out")
    sample = scanned(plan)
    Image.new("RGB", (64, 64), "red").save(folder / "00.png")
    with pytest.raises(PlanError, match=r"00\.png changed since it was scanned"):
        encoder(plan).latents(sample, sample.views[0])
    (folder / "00.png").write_bytes(before)
    again = encoder(plan)
    again.latents(sample, sample.views[0])
    assert again.made["latents"] == 1


@pytest.mark.parametrize("alpha", [False, True])
def test_a_mask_that_changed_after_the_scan_is_refused(encoder, tmp_path, alpha):
    folder, masks = tiny.pictures(tmp_path / "p", 1), tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (64, 64), 255).save(masks / "00.png")
    plan = tiny.plan("demo", folder, tmp_path / "out", f"data.masks={'alpha' if alpha else masks}")
    sample = scanned(plan)
    changed = folder / "00.png" if alpha else masks / "00.png"
    Image.new("LA" if alpha else "L", (64, 64)).save(changed)
    with pytest.raises(PlanError, match=r"00\.png changed since it was scanned"):
        encoder(plan).mask(sample, torch.zeros(4, 8, 8))
