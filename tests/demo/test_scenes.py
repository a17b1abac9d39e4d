"""Scenes and looks for pretraining: repeatable, captioned in plain English, within range."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from lora_diffusion.demo.canvas import blank, contours, flatten, luma, mix, paste, plain, smoothstep
from lora_diffusion.demo.glyphs import find_font, sprite
from lora_diffusion.demo.icons import ICONS
from lora_diffusion.demo.looks import GROUNDS, LOOKS
from lora_diffusion.demo.pretraining.textures import textured
from lora_diffusion.demo.scenes import random_scene
from lora_diffusion.errors import UsageError


@pytest.fixture(scope="module", autouse=True)
def font() -> Path:
    try:
        return find_font()
    except UsageError as error:
        pytest.skip(f"{error}; {error.hint}")


def test_the_font_has_every_icon_of_the_vocabulary():
    for name in ICONS:
        drawn = sprite(name, 40)
        assert max(drawn.shape[:2]) == 40
        assert drawn[..., 3].max() > 0.9, name


def test_equal_seeds_give_equal_scenes():
    first, second = (random_scene(Random(5), looks=0.5) for _ in range(2))
    assert first.caption == second.caption
    assert (first.picture == second.picture).all()


def test_scenes_name_an_icon_and_are_punctuated():
    rng = Random(1)
    for _ in range(60):
        scene = random_scene(rng, looks=0.5)
        assert any(name in scene.caption for name in ICONS), scene.caption
        assert "  " not in scene.caption
        assert " ," not in scene.caption
        assert scene.picture.shape == (128, 128, 3)
        assert scene.picture.dtype == np.float32
        assert 0 <= scene.picture.min() <= scene.picture.max() <= 1


@pytest.mark.parametrize("look", sorted(set(LOOKS), key=lambda look: look.__name__), ids=lambda look: look.__name__)
def test_every_look_draws_the_icon_on_a_ground_that_it_names(look):
    layer = blank()
    paste(layer, sprite("rocket", 100), 64, 64)
    looked = look(layer, "mint", Random(2))
    assert looked.words
    assert looked.ground in GROUNDS
    assert looked.picture.shape == (128, 128, 3)
    assert looked.picture.std() > 0.01


def test_textures_stay_within_range():
    rng = Random(3)
    for _ in range(12):
        picture = textured(rng)
        assert picture.shape == (128, 128, 3)
        assert 0 <= picture.min() <= picture.max() <= 1


def test_a_sprite_beyond_the_edge_is_cut_off():
    layer = blank()
    paste(layer, sprite("star", 60), 0, 128)
    paste(layer, sprite("star", 60), -200, 64)
    assert layer[..., 3].any()
    assert layer.shape == (128, 128, 4)


def test_drawing_helpers_agree_with_their_words():
    assert (flatten(blank(), (255, 0, 0)) == np.float32([1, 0, 0])).all()
    assert luma(plain((255, 255, 255))) == pytest.approx(1, abs=1e-6)
    assert not contours(blank()).any()
    assert smoothstep(np.float32([0, 0.5, 1]), 0, 1).tolist() == [0, 0.5, 1]
    assert (mix(plain((0, 0, 0)), (255, 255, 255), np.ones((128, 128), np.float32)) == 1).all()
