"""JPEGs far above the size that is asked for are scaled while they are decoded; nothing else about them changes."""

import io

import numpy as np
import pytest
from PIL import Image

from datasets_tools.errors import UnreadableImage
from datasets_tools.image import load_image, open_picture
from datasets_tools.quality import BLOCKY, quality_of
from tests.datasets_tools.corpus import cmyk_profile, encoded, wide_gamut_profile
from tests.datasets_tools.test_quality import clouds, graphic, leaves, meadow
from tests.robustness.pictures import ycck

SIDE = 100
KINDS = {
    "baseline": {"quality": 88},
    "progressive": {"quality": 88, "progressive": True},
    "without subsampling": {"quality": 88, "subsampling": 0},
    "with restarts": {"quality": 88, "restart_marker_rows": 1},
}


def photo(width: int = 640, height: int = 480, mode: str = "RGB") -> Image.Image:
    return leaves(1, (width, height)).convert(mode)


def outcome(data: bytes, at_least: int | None) -> str:
    try:
        return str(open_picture(data, at_least=at_least).size)
    except UnreadableImage as refused:
        return str(refused)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_off_anywhere_is_refused_as_in_a_full_decode(kind):
    data = encoded(photo(), "JPEG", **KINDS[kind])
    assert open_picture(data, at_least=SIDE).shrunk == 4
    places = [*range(20, len(data), len(data) // 60), *range(len(data) - 24, len(data))]
    found = [(outcome(data[:place], None), outcome(data[:place], SIDE)) for place in places]
    assert [full for full, _ in found] == [scaled for _, scaled in found]
    assert sum("640" not in full for full, _ in found) > 55


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_wrong_bytes_has_the_same_outcome_as_in_a_full_decode(kind):
    data = encoded(photo(), "JPEG", **KINDS[kind])
    draw = np.random.default_rng(7)
    found = []
    for number in range(150):
        damaged = bytearray(data)
        reach = 700 if number % 2 else len(data)  # half of them in the header and the tables
        for place in draw.integers(2, reach, 1 + number % 4):
            damaged[place] = draw.integers(0, 256)
        found.append((outcome(bytes(damaged), None), outcome(bytes(damaged), SIDE)))
    assert [full for full, _ in found] == [scaled for _, scaled in found]
    assert 5 < sum("640" not in full for full, _ in found) < 145


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("side", "scale"), [(120, 4), (100, 4), (58, 8), (70, 2), (43, 2)])
def test_the_pixels_are_those_of_a_full_decode_reduced(subsampling, side, scale):
    data = encoded(photo(), "JPEG", quality=90, subsampling=subsampling)
    picture = open_picture(data, at_least=side)
    assert picture.shrunk == scale
    assert min(picture.image.size) >= side
    expected = load_image(data).reduce(scale)
    more = min(expected.size) // side
    expected = expected.reduce(more) if more > 1 else expected
    assert picture.image.size == expected.size
    kept = "L" if subsampling == 1 else "RGB"  # of 4:2:2, libjpeg gives the colours at half the width
    away = np.abs(np.asarray(picture.image.convert(kept), int) - np.asarray(expected.convert(kept), int))
    assert away.mean() < 1.5
    assert np.abs(np.asarray(picture.image, float).mean((0, 1)) - np.asarray(expected, float).mean((0, 1))).max() < 0.5


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_mode_and_orientation_comes_out_upright_with_the_size_of_the_file(mode, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    marked = Image.new("L", (643, 481), 40)
    marked.paste(230, (0, 0, 320, 240))
    data = encoded(marked.convert(mode), "JPEG", exif=exif)
    full, scaled = open_picture(data), open_picture(data, at_least=SIDE)
    assert scaled.shrunk == 4
    assert (scaled.size, scaled.orientation, scaled.notes) == (full.size, turn, full.notes)
    assert scaled.jpeg_quality == full.jpeg_quality
    expected = full.image.resize(scaled.image.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(scaled.image, int) - np.asarray(expected, int)).mean() < 2


@pytest.mark.parametrize("profile", [wide_gamut_profile, cmyk_profile])
def test_colour_profiles_are_applied(profile):
    inks = profile is cmyk_profile
    plain = Image.new("CMYK", (640, 480), (200, 20, 60, 10)) if inks else Image.new("RGB", (640, 480), (200, 100, 60))
    data = encoded(plain, "JPEG", quality=95, icc_profile=profile())
    full, scaled = open_picture(data), open_picture(data, at_least=SIDE)
    assert scaled.shrunk == 4
    away = np.subtract(full.image.getpixel((300, 200)), scaled.image.getpixel((70, 50)))
    assert np.abs(away).max() <= 2


def test_inverted_inks_of_photoshop_and_second_pictures_are_read_as_ever():
    inks = ycck((200, 40, 30))
    small = min(open_picture(inks).image.size) // 4
    assert open_picture(inks, at_least=small).shrunk == 4
    assert np.abs(np.subtract(open_picture(inks, at_least=small).image.getpixel((2, 2)), (200, 40, 30))).max() <= 4
    depth = encoded(photo(), "MPO", save_all=True, append_images=[photo(64, 48)])
    picture = open_picture(depth, at_least=SIDE)
    assert (picture.format, picture.notes, picture.size, picture.shrunk) == ("JPEG", (), (640, 480), 4)


def test_pictures_near_the_size_and_other_formats_are_decoded_in_full():
    assert open_picture(encoded(photo(), "JPEG"), at_least=121).shrunk == 1
    for format in ("PNG", "WEBP", "TIFF"):
        assert open_picture(encoded(photo(), format), at_least=SIDE).shrunk == 1
    assert open_picture(encoded(photo(), "TIFF", compression="jpeg"), at_least=SIDE).shrunk == 1


def test_what_training_loads_is_every_pixel_of_the_decoder():
    data = encoded(photo(), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as plain:
        np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(plain))
    assert open_picture(data).shrunk == 1


LARGE = {make.__name__: make(1).resize((1024, 1024), Image.Resampling.BICUBIC) for make in (leaves, clouds, meadow)}


def seen_blocks(image: Image.Image, quality: int, side: int) -> float | None:
    picture = open_picture(encoded(image, "JPEG", quality=quality), at_least=side)
    assert picture.shrunk == 1024 // side
    return quality_of(picture.image, picture.detail, picture.shrunk).blockiness


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("side", [256, 128])
@pytest.mark.parametrize(("strong", "step"), [(10, 60), (25, 24), (30, 20)])
def test_strong_compression_is_found_in_a_copy_saved_again(name, side, strong, step):
    copy = load_image(encoded(LARGE[name], "JPEG", quality=strong))
    for again in (75, 90, 95):
        seen = seen_blocks(copy, again, side)
        assert seen > BLOCKY
        assert seen == pytest.approx(step, rel=0.1)


@pytest.mark.parametrize("name", [*LARGE, "graphic"])
@pytest.mark.parametrize("side", [256, 128])
@pytest.mark.parametrize("quality", [50, 75, 90, 98])
def test_light_compression_is_not_called_blocky_where_the_decoder_scaled(name, side, quality):
    image = LARGE.get(name) or graphic(1).resize((1024, 1024), Image.Resampling.BICUBIC)
    seen = seen_blocks(image, quality, side)
    assert seen is None or seen < BLOCKY - 3


def test_blocks_are_looked_for_from_their_corner_on():
    odd = load_image(encoded(leaves(2, (1100, 1050)), "JPEG", quality=25))
    picture = open_picture(encoded(odd, "JPEG", quality=92), at_least=256)
    assert picture.shrunk == 4
    assert quality_of(picture.image, picture.detail, 4).blockiness > BLOCKY
