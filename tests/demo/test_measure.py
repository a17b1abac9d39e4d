"""The measures: zero for equal pictures, larger for worse ones, blind to what they should not see."""

import pytest
import torch

from lora_diffusion.demo.measure import colour_distance, distance, pixel_distance, retrieval
from lora_diffusion.seeds import generator


@pytest.fixture
def pictures() -> torch.Tensor:
    """Six pictures of random blocks, 32 x 32 pixels, four cells of latents across."""
    blocks = torch.rand(6, 3, 4, 4, generator=generator(0, "blocks"))
    return blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_equal_pictures_have_no_distance_and_are_all_recognised(pictures: torch.Tensor):
    found = distance(pictures, pictures.clone())
    assert (found.pixels, found.colours, found.found) == (0.0, 0.0, 1.0)


def test_black_and_white_are_as_far_apart_as_can_be():
    black, white = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
    assert pixel_distance(black, white) == 1.0
    assert colour_distance(black, white) == 1.0


def test_colours_are_compared_wherever_they_are(pictures: torch.Tensor):
    assert colour_distance(pictures, pictures.flip(-1)) == 0.0
    assert pixel_distance(pictures, pictures.flip(-1)) > 0.1


def test_retrieval_sees_the_shape_and_not_the_brightness(pictures: torch.Tensor):
    assert retrieval(pictures * 0.5 + 0.3, pictures) == 1.0


def test_retrieval_counts_pictures_that_are_nearer_to_another(pictures: torch.Tensor):
    assert retrieval(pictures.roll(1, 0), pictures) == 0.0
    swapped = pictures[[1, 0, 2, 3, 4, 5]]
    assert retrieval(swapped, pictures) == pytest.approx(4 / 6)


def test_further_candidates_make_retrieval_harder(pictures: torch.Tensor):
    blurred = pictures.mean((2, 3), keepdim=True) + 0.1 * pictures.flip(-1)
    assert distance(pictures, blurred, among=pictures).found == 0.0
