import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets_tools import bucket_for, crop_for, load_image, read_size, render, to_pixels
from datasets_tools.bucket import Bucket, BucketRule
from datasets_tools.errors import UnreadableImage
from datasets_tools.image import FORMATS, Limits, open_picture
from tests.datasets_tools.corpus import (
    RED,
    bomb,
    cmyk_profile,
    corners,
    encoded,
    png_chunk,
    png_header,
    scene,
    srgb_profile,
    wide_gamut_profile,
)

TURNED_BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(turn: int, format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    back = TURNED_BACK[turn]
    stored = corners() if back is None else corners().transpose(back)
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    return encoded(stored, format, exif=exif, **options)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path, turn, format):
    file = tmp_path / "turned"
    file.write_bytes(with_orientation(turn, format))
    image = load_image(file)
    assert image.size == read_size(file) == open_picture(file, at_least=4).size == (48, 32)
    assert np.abs(np.asarray(image, int) - np.asarray(corners(), int)).max() <= 12


def test_orientation_written_after_the_pixels_of_a_png_counts(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    early = encoded(corners(), "PNG")
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    file = tmp_path / "late.png"
    file.write_bytes(early[:-12] + chunk + early[-12:])
    assert read_size(file) == load_image(file).size == (32, 48)


@pytest.mark.parametrize("directory", [b"XXXX\0\x08\0\0\0\xff\xff", b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0"])
def test_damaged_exif_is_noted_and_the_pixels_are_kept(directory):
    picture = open_picture(encoded(corners(), "JPEG", exif=b"Exif\0\0" + directory))
    assert picture.size == (48, 32)
    assert picture.notes == ("exif-broken",)


@pytest.mark.parametrize(
    ("mode", "format", "expected"),
    [
        ("RGB", "PNG", RED),
        ("RGB", "BMP", RED),
        ("RGB", "TIFF", RED),
        ("CMYK", "TIFF", RED),
        ("P", "PNG", RED),
        ("L", "PNG", (86, 86, 86)),
        ("1", "PNG", (255, 255, 255)),
        ("1", "TIFF", (255, 255, 255)),
        ("LAB", "TIFF", (118, 118, 118)),
    ],
)
def test_every_mode_becomes_rgb(mode, format, expected):
    plain = Image.new("RGB", (20, 20), RED)
    if mode == "LAB":
        plain = Image.merge("LAB", [Image.new("L", (20, 20), value) for value in (127, 128, 128)])
    elif mode == "1":
        plain = Image.new("1", (20, 20), 1)
    else:
        plain = plain.quantize() if mode == "P" else plain.convert(mode)
    image = load_image(encoded(plain, format))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image.getpixel((10, 10)), int) - expected).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(1, 64).repeat(4, 0)
    picture = open_picture(encoded(Image.fromarray(ramp), format))
    assert "sixteen-bit" in picture.notes
    np.testing.assert_array_equal(np.asarray(picture.image)[0, :, 0], np.round(ramp[0] / 257))


def test_sixteen_bit_rgb_is_scaled_not_clipped():
    import zlib

    row = b"\0" + b"".join(value.to_bytes(2, "big") * 3 for value in (0, 257 * 100, 65535))
    header = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes([0, 0, 0, 3, 0, 0, 0, 1, 16, 2, 0, 0, 0]))
    data = header + png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    assert np.asarray(load_image(data))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_of_32_bits_are_refused_rather_than_guessed(mode):
    with pytest.raises(UnreadableImage, match="no agreed white") as refused:
        load_image(encoded(Image.new(mode, (8, 8), 1), "TIFF"))
    assert "8 or 16 bits" in refused.value.hint


def half_transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (20, 10), (*RED, 255))
    image.paste((9, 250, 9, 0), (10, 0, 20, 10))  # a hidden colour, as design tools leave it
    if mode == "P":
        palette = Image.new("P", (20, 10), 0)
        palette.putpalette([*RED, 9, 250, 9])
        palette.paste(1, (10, 0, 20, 10))
        palette.info["transparency"] = 1
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("LA", "PNG"), ("P", "PNG")])
def test_transparent_parts_show_the_background_never_the_hidden_colour(mode, format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(half_transparent(mode), format, **options)
    picture = open_picture(data, background=(1, 2, 250))
    assert "transparent" in picture.notes
    assert picture.image.getpixel((15, 5)) == (1, 2, 250)
    assert picture.image.getpixel((5, 5))[0] > 80
    assert load_image(data).getpixel((15, 5)) == (255, 255, 255)


def test_transparent_colour_of_rgb_and_16_bit_grey_png_is_respected():
    rgb = encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED)
    assert load_image(rgb).getpixel((1, 1)) == (255, 255, 255)
    grey = encoded(Image.fromarray(np.full((4, 4), 500, np.uint16)), "PNG", transparency=500)
    assert load_image(grey).getpixel((1, 1)) == (255, 255, 255)


def test_opaque_alpha_is_not_called_transparent():
    assert open_picture(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255)), "PNG")).notes == ()


def test_wide_gamut_colours_are_converted_to_srgb():
    image = Image.new("RGB", (8, 8), (200, 100, 60))
    red, green, _ = load_image(encoded(image, "PNG", icc_profile=wide_gamut_profile())).getpixel((4, 4))
    assert red > 208  # the same numbers mean a stronger red in Display P3
    assert green < 99
    assert load_image(encoded(image, "PNG")).getpixel((4, 4)) == (200, 100, 60)


def test_cmyk_is_converted_by_its_own_profile():
    inks = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # cyan by guess, a light grey by this profile
    for format in ("TIFF", "JPEG"):
        picture = open_picture(encoded(inks, format, icc_profile=cmyk_profile()))
        assert picture.notes == ()
        assert np.abs(np.asarray(picture.image.getpixel((4, 4)), int) - 185).max() <= 8
    assert load_image(encoded(inks, "TIFF")).getpixel((4, 4)) == (0, 255, 255)


def test_pictures_that_are_srgb_already_keep_every_bit():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    tagged = load_image(encoded(noise, "PNG", icc_profile=srgb_profile()))
    np.testing.assert_array_equal(np.asarray(tagged), np.asarray(noise))


def test_a_photo_with_a_second_picture_inside_is_a_photo_not_an_animation():
    data = encoded(scene(seed=1), "MPO", save_all=True, append_images=[scene(seed=2)])
    picture = open_picture(data)
    assert (picture.format, picture.notes, picture.size) == ("JPEG", (), (96, 64))


def test_greys_with_the_rgb_profile_of_their_document_are_read():
    picture = open_picture(encoded(Image.new("L", (8, 8), 99), "PNG", icc_profile=wide_gamut_profile()))
    assert picture.notes == ()
    assert abs(picture.image.getpixel((1, 1))[0] - 99) <= 4


@pytest.mark.parametrize("profile", [b"not a profile", wide_gamut_profile()[:200], bytes(500)])
def test_broken_profile_is_read_as_srgb_and_reported(profile):
    picture = open_picture(encoded(Image.new("RGB", (8, 8), RED), "PNG", icc_profile=profile))
    assert picture.notes == ("icc-broken",)
    assert picture.image.getpixel((1, 1)) == RED


def test_cmyk_without_profile_is_reported_and_adobe_inversion_undone():
    data = encoded(Image.new("RGB", (16, 16), (250, 250, 250)).convert("CMYK"), "JPEG", quality=100)
    picture = open_picture(data)
    assert picture.notes == ("cmyk-without-profile",)
    assert min(picture.image.getpixel((8, 8))) > 235


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_moving_pictures_give_their_first_frame(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, (0, 0, 0))]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    picture = open_picture(data)
    assert "animated" in picture.notes
    assert np.abs(np.asarray(picture.image.getpixel((8, 8)), int) - RED).max() <= 6


@pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow has no AVIF")
def test_avif_is_read():
    assert load_image(encoded(scene(), "AVIF")).size == (96, 64)


IN_DISGUISE = [
    (b"", "empty", "again"),
    (b"just some words about a picture", "a text file", "real picture"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "a web page", "save the picture itself"),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing", "export it as PNG"),
    (b"%PDF-1.7\n", "a PDF", "export it as PNG"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n(x) show\n", "an EPS", "export it as PNG"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer", "git lfs pull"),
    (b"PK\3\4" + bytes(40), "a ZIP archive", "unpack"),
    (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC photo", "as JPEG"),
    (encoded(scene(), "GIF"), "a GIF", "as PNG"),
    (encoded(scene(32, 32), "ICO"), "an icon", "as PNG"),
    (bytes(range(256)) * 4, "not a picture in a known format", "as PNG"),
]


@pytest.mark.parametrize(("data", "what", "remedy"), IN_DISGUISE, ids=[what for _, what, _ in IN_DISGUISE])
def test_what_is_not_a_picture_is_named_with_the_remedy(tmp_path, data, what, remedy):
    file = tmp_path / "logo ünï.png"
    file.write_bytes(data)
    for read in (load_image, read_size):
        with pytest.raises(UnreadableImage) as refused:
            read(file)
        assert what in str(refused.value)
        assert "logo ünï.png" in str(refused.value)
        assert remedy in refused.value.hint


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused_never_filled_with_grey(format, share):
    data = encoded(scene(400, 300), format)
    with pytest.raises(UnreadableImage) as refused:
        load_image(data[: max(12, int(share * len(data)))])
    assert "copy or export it again" in refused.value.hint


def test_one_flipped_bit_in_a_png_is_found():
    data = bytearray(encoded(scene(), "PNG"))
    for place in range(60, len(data) - 12, 997):
        data[place] ^= 4
        with pytest.raises(UnreadableImage, match=r"damaged|truncated"):
            load_image(bytes(data))
        data[place] ^= 4


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP"]), st.data())
def test_any_bytes_give_a_picture_or_one_clear_refusal(format, data):
    original = bytearray(encoded(scene(40, 30), format))
    for _ in range(data.draw(st.integers(1, 6))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = load_image(bytes(original)).mode
    except UnreadableImage as refused:
        outcome = refused.hint
    assert outcome


@pytest.mark.parametrize("size", [(13_000, 13_000), (9_000, 9_000), (30_000, 30_000), (20_000, 10)])
def test_bombs_are_refused_from_the_header(tmp_path, size):
    file = tmp_path / "bomb.png"
    file.write_bytes(bomb(*size))
    for read in (load_image, read_size):
        with pytest.raises(UnreadableImage, match="pixels") as refused:
            read(file)
        assert "scale it down" in refused.value.hint


COST = """
import sys
from datasets_tools.errors import UnreadableImage
from datasets_tools.image import Limits, load_image
from tests.memory import peak, resident
before = resident()
try:
    load_image(sys.argv[1], limits=Limits(max_pixels=int(sys.argv[2])))
    print("read", peak() - before)
except UnreadableImage:
    print("refused", peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in another place elsewhere")
def test_a_bomb_costs_less_than_64_megabytes_where_reading_it_costs_200(tmp_path):
    side, packer = 9_000, zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    (tmp_path / "bomb.png").write_bytes(png_header(side, side) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b""))

    def cost(max_pixels: int) -> tuple[str, int]:
        command = [sys.executable, "-c", COST, str(tmp_path / "bomb.png"), str(max_pixels)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        outcome, grown = done.stdout.split()
        return outcome, int(grown)

    outcome, grown = cost(Limits().max_pixels)
    assert outcome == "refused"
    assert grown < 64e6
    outcome, grown = cost(side**2)
    assert outcome == "read"
    assert grown > 200e6


def test_compressed_text_bombs_in_a_png_do_not_explode():
    text = png_chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(80_000_000), 9))
    plain = encoded(scene(), "PNG")
    with pytest.raises(UnreadableImage):
        load_image(plain[:33] + text + plain[33:])


def test_limits_can_be_set(tmp_path):
    file = tmp_path / "a.png"
    scene(96, 64).save(file)
    assert read_size(file, Limits(max_pixels=96 * 64, max_side=96)) == (96, 64)
    with pytest.raises(UnreadableImage, match="96 x 64"):
        load_image(file, limits=Limits(max_side=95))
    with pytest.raises(UnreadableImage, match="above the limit of 10 bytes"):
        load_image(file, limits=Limits(max_bytes=10))


def test_size_is_read_without_decoding(tmp_path):
    file = tmp_path / "header-only.png"
    file.write_bytes(png_header(640, 480) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    assert read_size(file) == (640, 480)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(UnreadableImage, match="does not exist"):
        load_image(tmp_path / "no.png")
    with pytest.raises(UnreadableImage, match="cannot be read"):
        load_image(tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (300, 200), (4000, 3000)])
def test_every_size_renders_to_its_bucket(size):
    bucket = bucket_for(*size, BucketRule())
    image = render(Image.new("RGB", size, RED), crop_for(*size, bucket))
    assert image.size == (bucket.width, bucket.height)
    assert image.getpixel((bucket.width // 2, bucket.height // 2)) == RED


def test_render_cuts_where_the_crop_says():
    image = Image.new("RGB", (300, 100), (0, 0, 0))
    image.paste((255, 255, 255), (100, 0, 200, 100))  # the middle third
    square = render(image, crop_for(300, 100, Bucket(width=64, height=64)))
    assert np.asarray(square)[:, 1:-1].min() >= 250


def test_render_keeps_fine_texture_from_turning_into_moire():
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(render(Image.fromarray(stripes), crop_for(1024, 1024, Bucket(width=96, height=96))))
    assert np.ptp(small[8:-8, 8:-8].astype(int)) <= 12


def test_pixels_are_channels_first_from_minus_one_to_one():
    image = Image.new("RGB", (3, 2), (0, 255, 0))
    pixels = to_pixels(image)
    assert pixels.shape == (3, 2, 3)
    assert pixels.dtype == np.float32
    assert pixels[0].max() == -1
    assert pixels[1].min() == 1
    np.testing.assert_array_equal(np.rint((pixels + 1) * 127.5).transpose(1, 2, 0), np.asarray(image))


def test_reduced_decoding_reports_the_same_as_full_decoding(tmp_path):
    file = tmp_path / "a.jpg"
    scene(1200, 900).save(file, icc_profile=b"broken")
    full, reduced = open_picture(file), open_picture(file, at_least=64)
    assert (full.size, full.notes, full.format) == (reduced.size, reduced.notes, reduced.format)
    assert min(reduced.image.size) in range(64, 129)


@pytest.mark.parametrize("quality", [1, 5, 25, 30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality):
    assert open_picture(encoded(scene(), "JPEG", quality=quality)).jpeg_quality == quality
    assert open_picture(encoded(scene(), "MPO", quality=quality)).jpeg_quality == quality


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_formats_have_no_jpeg_quality(format):
    assert open_picture(encoded(scene(), format)).jpeg_quality is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_that_was_applied_is_told(turn, format):
    assert open_picture(with_orientation(turn, format)).orientation == turn


def test_the_detail_is_the_middle_of_the_stored_pixels():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 1000), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = open_picture(encoded(noise, "PNG", exif=exif), at_least=100)
    assert picture.image.size == (100, 167)
    assert picture.detail.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture.detail), np.asarray(noise)[44:556, 244:756])


def test_the_detail_of_a_small_picture_is_all_of_it():
    assert open_picture(encoded(scene(96, 64), "JPEG"), at_least=32).detail.size == (96, 64)


def test_an_ordinary_load_takes_no_detail():
    assert open_picture(encoded(scene(), "JPEG")).detail is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16"])
def test_every_mode_has_a_detail(mode):
    plain = Image.new("I;16", (20, 20), 30_000) if mode == "I;16" else Image.new(mode, (20, 20))
    assert open_picture(encoded(plain, "TIFF"), at_least=8).detail.mode == "L"


def test_transparent_palettes_have_a_detail():
    assert open_picture(encoded(half_transparent("P"), "PNG"), at_least=4).detail.size == (20, 10)


def test_pixels_leave_no_profile_to_be_applied_twice(tmp_path: Path):
    assert load_image(encoded(scene(), "PNG", icc_profile=wide_gamut_profile())).info == {}


def test_sixteen_bits_per_colour_are_noted():
    row = b"\0" + bytes(range(6)) * 4
    header = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(row * 2))
        + png_chunk(b"IEND", b"")
    )
    assert open_picture(data).notes == ("sixteen-bit",)
