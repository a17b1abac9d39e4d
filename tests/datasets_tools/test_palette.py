from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets_tools.captioners import captioner
from datasets_tools.captioners.palette import describe
from datasets_tools.palette import colour_name, merged, oklab, palette_of
from tests.datasets_tools.corpus import encoded

ORANGE, NAVY, WHITE = (245, 140, 25), (20, 35, 100), (255, 255, 255)


def striped(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (40 * len(colours), 60))
    for place, colour in enumerate(colours):
        image.paste(colour, (40 * place, 0, 40 * place + 40, 60))
    return image


def test_shares_are_those_of_the_area():
    assert dict(palette_of(striped(ORANGE, NAVY, WHITE, WHITE))) == pytest.approx(
        {WHITE: 0.5, ORANGE: 0.25, NAVY: 0.25}, abs=0.01
    )


def test_shades_of_one_colour_are_one_entry():
    noise = np.random.default_rng(0).normal(0, 5, (60, 80, 3)) + np.array(ORANGE)
    ((colour, share),) = palette_of(Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)))
    assert share == pytest.approx(1)
    assert np.abs(np.array(colour) - ORANGE).max() <= 4


def test_no_more_colours_than_asked_for():
    rainbow = striped(*[(red, green, 128) for red in (0, 85, 170, 255) for green in (0, 128, 255)])
    assert len(palette_of(rainbow)) == 6
    assert len(palette_of(rainbow, count=3)) == 3


def test_a_soft_edge_adds_no_colour():
    image = striped(NAVY, WHITE).resize((400, 300), Image.Resampling.BICUBIC)
    assert [colour_name(rgb) for rgb, _ in palette_of(image)[:2]] in (["dark blue", "white"], ["white", "dark blue"])
    assert sum(share for _, share in palette_of(image)[:2]) > 0.95


def test_every_picture_of_a_set_counts_alike():
    small, large = palette_of(striped(ORANGE)), palette_of(striped(*[NAVY] * 30))
    assert merged([small, large]) == ((ORANGE, 0.5), (NAVY, 0.5))


def test_like_colours_of_different_pictures_are_merged():
    ((colour, share),) = merged([(((240, 140, 30), 1.0),), (((250, 140, 20), 1.0),)])
    assert colour == (245, 140, 25)
    assert share == 1


def test_a_set_without_pictures_has_no_palette():
    assert merged([]) == merged([(), ()]) == ()
    assert len(merged([palette_of(striped(ORANGE, NAVY, WHITE))], count=2)) == 2


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((130, 130, 130), "grey"),
        ((0, 0, 139), "dark blue"),
        ((245, 245, 220), "cream"),
        ((210, 180, 140), "beige"),
        ((0, 128, 128), "teal"),
        ((255, 165, 0), "orange"),
        ((255, 0, 0), "red"),
        ((128, 0, 0), "dark red"),
        ((0, 100, 0), "dark green"),
        ((139, 69, 19), "brown"),
        ((173, 216, 230), "light blue"),
        ((255, 192, 203), "pink"),
        ((128, 0, 128), "purple"),
        ((255, 255, 0), "yellow"),
    ],
)
def test_colours_have_their_everyday_name(rgb, name):
    assert colour_name(rgb) == name


def test_oklab_agrees_with_the_values_of_its_author():
    # the article's table of XYZ pairs puts D65 white at (1, 0, 0); pure red is from the author's reference code
    np.testing.assert_allclose(oklab([[255, 255, 255]]), [[1, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(oklab([[255, 0, 0]]), [[0.628, 0.225, 0.126]], atol=1e-3)


def page(
    size: tuple[int, int] = (400, 300), ground: tuple[int, int, int] = WHITE
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, ground)
    return image, ImageDraw.Draw(image)


def test_one_motif_on_a_page_is_described():
    image, pen = page()
    pen.ellipse((130, 80, 270, 220), fill=ORANGE)
    pen.rectangle((170, 120, 230, 180), fill=NAVY)
    assert (
        describe(image) == "wide picture, single motif in the middle on a plain white background, orange and dark blue"
    )


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((10, 110, 90, 190), "at the left"),
        ((320, 200, 390, 290), "at the bottom right"),
        ((150, 10, 250, 80), "at the top"),
    ],
)
def test_the_place_of_the_motif_is_said(box, place):
    image, pen = page()
    pen.ellipse(box, fill=NAVY)
    assert f"single motif {place} on" in describe(image)


def test_separate_motifs_are_not_called_one():
    image, pen = page()
    for x in (60, 180, 300):
        pen.ellipse((x, 120, x + 50, 170), fill=NAVY)
    assert "several separate motifs on a plain white background" in describe(image)


def test_texture_is_busy_and_filled_to_the_edges():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8))
    assert describe(noise).startswith("busy tall picture filled to the edges, ")
    assert describe(Image.linear_gradient("L").convert("RGB")).startswith("square picture filled to the edges, ")


def test_an_empty_page_is_only_its_colour():
    assert describe(Image.new("RGB", (50, 50), NAVY)) == "square picture, plain dark blue all over"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 2), (3, 7)])
def test_every_size_is_described(size):
    assert "picture" in describe(Image.new("RGB", size, ORANGE))


def test_the_captioner_reads_files_and_is_silent_about_broken_ones(tmp_path: Path):
    image, pen = page(ground=NAVY)
    pen.ellipse((130, 80, 270, 220), fill=ORANGE)
    (tmp_path / "a.jpg").write_bytes(encoded(image, "JPEG", quality=60))
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    words = captioner("palette")
    assert words.caption(tmp_path / "a.jpg") == (
        "wide picture, single motif in the middle on a plain dark blue background, orange"
    )
    assert words.caption(tmp_path / "b.jpg") == ""
