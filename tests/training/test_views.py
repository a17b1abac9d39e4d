"""The looks at a picture are few, fixed and near the picture."""

import numpy as np
import pytest
from PIL import Image

from lora_diffusion.training.views import PLAIN, View, applied, views_of

SHA = "ab" * 32


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(40, 200, (8, 12, 3), dtype=np.uint8))


@pytest.mark.parametrize(("flip", "jitter", "count"), [(False, 0, 1), (True, 0, 2), (False, 0.1, 4), (True, 0.1, 8)])
def test_the_views_are_a_mirror_times_four_colourings(flip, jitter, count):
    views = views_of(SHA, flip=flip, colour_jitter=jitter)
    assert views[0] == PLAIN
    assert len(set(views)) == count
    assert sum(view.flip for view in views) * 2 == (count if flip else 0)


def test_colours_change_at_most_as_far_as_asked():
    factors = [each for view in views_of(SHA, flip=False, colour_jitter=0.05)[1:] for each in view.colours]
    assert all(0.95 <= each <= 1.05 and each != 1 for each in factors)
    assert min(factors) < 1 < max(factors)


def test_each_picture_has_colourings_of_its_own():
    assert views_of(SHA, flip=False, colour_jitter=0.1) != views_of("cd" * 32, flip=False, colour_jitter=0.1)


def test_the_plain_view_is_the_picture():
    assert np.array_equal(np.asarray(applied(PLAIN, picture())), np.asarray(picture()))


def test_a_flip_is_the_mirror_image():
    assert np.array_equal(np.asarray(applied(View(flip=True), picture())), np.asarray(picture())[:, ::-1])


@pytest.mark.parametrize("place", range(3))
def test_brightness_contrast_and_saturation_each_change_the_picture_a_little(place):
    colours = [1.0, 1.0, 1.0]
    colours[place] = 1.1
    before, after = np.asarray(picture()).astype(int), np.asarray(applied(View(colours=tuple(colours)), picture()))
    assert 0 < abs(after - before).mean() < 25
