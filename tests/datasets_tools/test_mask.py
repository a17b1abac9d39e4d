"""A mask says which part of a picture counts, whatever kind of file it lies in."""

import numpy as np
import pytest
from PIL import Image

from datasets_tools.errors import InvalidSetting
from datasets_tools.image import load_image
from datasets_tools.mask import load_alpha, load_mask, mask_files, mask_name


def half(size=(40, 20)):
    """An alpha channel whose left half is opaque."""
    alpha = Image.new("L", size, 0)
    alpha.paste(255, (0, 0, size[0] // 2, size[1]))
    return alpha


def with_alpha(alpha, colour=(120, 60, 200)):
    image = Image.new("RGB", alpha.size, colour)
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {})])
def test_the_alpha_channel_is_read_from_every_format_that_has_one(tmp_path, name, options):
    with_alpha(half()).save(tmp_path / name, **options)
    assert np.array_equal(np.asarray(load_alpha(tmp_path / name)), np.asarray(half()))


def test_a_palette_with_a_transparent_colour_has_an_alpha_channel(tmp_path):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((3, 1), 1)
    image.save(tmp_path / "a.png", transparency=1)
    alpha = np.asarray(load_alpha(tmp_path / "a.png"))
    assert alpha[1, 3] == 0
    assert (np.delete(alpha.reshape(-1), 7) == 255).all()


def test_half_transparent_parts_are_right_within_one_level(tmp_path):
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    with_alpha(ramp).save(tmp_path / "a.png")
    found = np.asarray(load_alpha(tmp_path / "a.png")).astype(int)
    assert abs(found - np.asarray(ramp).astype(int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_alpha_channel_is_turned_as_the_picture_is(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # black where opaque: on white the upright picture is the inverted upright alpha channel
    with_alpha(half(), colour=(0, 0, 0)).save(tmp_path / "a.png", exif=exif)
    picture = load_image(tmp_path / "a.png").convert("L")
    alpha = load_alpha(tmp_path / "a.png")
    assert alpha.size == picture.size
    assert np.array_equal(np.asarray(alpha), 255 - np.asarray(picture))


def test_a_picture_without_transparency_has_no_alpha(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "plain.png")
    with_alpha(Image.new("L", (8, 8), 255)).save(tmp_path / "opaque.png")
    assert load_alpha(tmp_path / "plain.png") is None
    assert load_alpha(tmp_path / "opaque.png") is None


def test_a_mask_is_read_as_it_was_drawn_with_nothing_as_black(tmp_path):
    with_alpha(half(), colour=(255, 255, 255)).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_mask(tmp_path / "a.png")), np.asarray(half()))


def test_masks_are_found_by_name_whatever_their_suffix(tmp_path):
    for name in ("a.png", "sub/b.JPG", "c.final.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        half().convert("RGB").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a mask")
    found = mask_files(tmp_path)
    assert {name: path.name for name, path in found.items()} == {
        "a": "a.png",
        "sub/b": "b.JPG",
        "c.final": "c.final.webp",
    }
    assert mask_name("sub/b.png") == "sub/b"
    assert mask_name("c.final") == "c.final"


def test_accents_are_one_name_however_they_are_stored():
    assert mask_name("caf\u00e9.png") == mask_name("cafe\u0301.jpg")


def test_two_masks_of_one_picture_are_refused(tmp_path):
    half().save(tmp_path / "a.png")
    half().save(tmp_path / "a.jpg")
    with pytest.raises(InvalidSetting, match=r"a\.jpg and .*a\.png are masks of the same picture"):
        mask_files(tmp_path)


def test_a_missing_folder_of_masks_is_named(tmp_path):
    with pytest.raises(InvalidSetting, match="nowhere does not exist"):
        mask_files(tmp_path / "nowhere")
