"""Files that decode without an error and would yet be trained as something else than what they show."""

import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_tools.errors import UnreadableImage
from datasets_tools.image import load_image, open_picture, read_size
from datasets_tools.scan import scan_folder
from tests.datasets_tools.corpus import encoded, scene

# A tag block that says "Uncalibrated" (65535) and, behind that, the DCF mark of Adobe RGB, as Canon's cameras write it.
IN_ADOBE_RGB = (
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0"
    b"\x02\0\x01\xa0\x03\0\x01\0\0\0\xff\xff\0\0\x05\xa0\x04\0\x01\0\0\0\x38\0\0\0\0\0\0\0"
    b"\x01\0\x01\0\x02\0\x04\0\0\0R03\0\0\0\0\0"
)
FROM_XYZ = np.linalg.inv([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def tiff(values: Sequence[tuple[int, int]], data: bytes) -> bytes:
    """Return a little-endian TIFF of 96 x 64 with one-value tags and its data in one strip."""
    place = 8 + 2 + 12 * (len(values) + 6) + 4
    tags = sorted([*values, (256, 96), (257, 64), (259, 1), (273, place), (278, 64), (279, len(data))])
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4) + data


def grey(bits: int, interpretation: int, data: bytes) -> bytes:
    return tiff([(258, bits), (262, interpretation), (277, 1)], data)


def test_a_photo_that_states_adobe_rgb_without_a_profile_has_the_colours_of_the_scene():
    shown = scene()
    levels = np.asarray(shown) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    stored = np.clip(linear @ (FROM_XYZ @ TO_XYZ).T, 0, 1) ** (256 / 563)
    file = Image.fromarray((255 * stored + 0.5).astype(np.uint8))
    data = encoded(file, "JPEG", quality=100, subsampling=0, exif=IN_ADOBE_RGB)
    apart = np.abs(np.asarray(load_image(data), int) - np.asarray(shown, int))
    assert apart.mean() < 3
    assert np.abs(np.asarray(file, int) - np.asarray(shown, int)).mean() > 2 * apart.mean()


@pytest.mark.parametrize("kind", [((50706, 0x401),), ((254, 1), (330, 8))])
def test_a_raw_photo_is_refused_rather_than_read_as_its_preview(tmp_path, kind):
    file = tmp_path / "raw.dng"
    file.write_bytes(tiff([*kind, (258, 8), (262, 1), (277, 1)], bytes(96 * 64)))
    for read in (load_image, read_size):
        with pytest.raises(UnreadableImage, match="raw photo") as refused:
            read(file)
        assert "export it as JPEG" in refused.value.hint


def test_a_16_bit_grey_whose_zero_is_white_is_not_read_as_its_negative():
    with pytest.raises(UnreadableImage, match="wrong colours"):
        load_image(grey(16, 0, np.full((64, 96), 60_000, "<u2").tobytes()))


def test_a_12_bit_grey_is_not_read_as_near_black():
    with pytest.raises(UnreadableImage, match="wrong colours"):
        load_image(grey(12, 1, bytes([200]) * (96 * 64 * 3 // 2)))


def test_16_bits_in_separate_planes_are_not_read_as_8():
    buffer = bytearray(encoded(Image.new("RGB", (96, 64)), "TIFF"))
    first = struct.unpack_from("<I", buffer, 4)[0]
    for at in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", buffer, first)[0], 12):
        tag, _, count, place = struct.unpack_from("<HHII", buffer, at)
        if tag == 258:
            struct.pack_into(f"<{count}H", buffer, place, *[16] * count)
        if tag == 284:
            struct.pack_into("<H", buffer, at + 8, 2)
    with pytest.raises(UnreadableImage, match="wrong colours"):
        load_image(bytes(buffer))


@pytest.mark.parametrize("format", ["BMP", "TIFF"])
def test_8_bits_are_not_called_16_whatever_other_numbers_a_decoder_is_told(format):
    options = {"compression": "tiff_lzw"} if format == "TIFF" else {}
    assert open_picture(encoded(scene(720, 64), format, **options)).notes == ()


def test_a_jpeg_that_broke_off_and_was_closed_again_is_named():
    whole = encoded(scene(320, 240), "JPEG", quality=90)
    for at_least in (None, 32):
        assert "cut-short" in open_picture(whole[: len(whole) // 2] + b"\xff\xd9", at_least=at_least).notes
        assert "cut-short" not in open_picture(whole, at_least=at_least).notes


def test_a_jpeg_on_a_grey_ground_is_whole():
    ground = Image.new("RGB", (320, 240), (128, 128, 128))
    ground.paste(scene(160, 120), (80, 60))
    assert open_picture(encoded(ground, "JPEG", quality=90)).notes == ()


def test_a_picture_of_one_colour_is_named(tmp_path: Path):
    Image.new("RGBA", (320, 240)).save(tmp_path / "artboard.png")
    Image.new("L", (320, 240), 255).save(tmp_path / "page.jpg")
    scene(320, 240).save(tmp_path / "scene.png")
    found = {(finding.code, finding.file) for finding in scan_folder(tmp_path).findings}
    assert {file for code, file in found if code == "image-blank"} == {"artboard.png", "page.jpg"}


def test_a_large_document_is_named_without_reading_it_whole(tmp_path):
    file = tmp_path / "layout.psd"
    with file.open("wb") as document:
        document.write(b"8BPS")
        document.truncate(500_000_000)
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match="a Photoshop document"):
        load_image(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
