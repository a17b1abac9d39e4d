"""Twins are found however they were scaled, saved or mirrored; different pictures are not."""

import dataclasses
import itertools
import random
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets_tools.alike import duplicates, leaks, near_duplicates
from datasets_tools.look import Look, Seen, look_at
from tests.datasets_tools.corpus import encoded


def photo(seed, size=(360, 270)):
    """Return soft shapes of many scales in colour, as a photograph has."""
    draw = np.random.default_rng(seed)
    layers = []
    for side in (3, 6, 12, 24, 48):
        noise = Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8))
        layers.append(np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=np.float32))
    mixed = np.average(layers, axis=0, weights=[1 / 2**place for place in range(5)])
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def seen(folder, pictures):
    for name, data in pictures.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else encoded(data, "PNG"))
    return [look_at(name, Look(folder=folder)) for name in pictures]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((120, 90), Image.Resampling.LANCZOS),
        lambda image: image.resize((1440, 1080), Image.Resampling.BICUBIC),
        lambda image: encoded(image, "JPEG", quality=40),
        lambda image: encoded(ImageOps.mirror(image).resize((180, 135)), "JPEG", quality=70),
        ImageOps.mirror,
    ],
    ids=["smaller", "larger", "recompressed", "mirrored, smaller and recompressed", "mirrored"],
)
def test_a_changed_copy_is_found(tmp_path, change):
    for seed in range(6):
        original = photo(seed)
        pictures = seen(tmp_path, {"a.png": original, "other.png": photo(100 + seed), "copy.png": change(original)})
        [finding] = near_duplicates(pictures)
        assert (finding.code, finding.file) == ("image-near-duplicate", "copy.png")
        assert "a.png" in finding.reason


def test_a_mirrored_copy_is_called_so(tmp_path):
    [finding] = near_duplicates(seen(tmp_path, {"a.png": photo(1), "b.png": ImageOps.mirror(photo(1))}))
    assert "a.png mirrored" in finding.reason


def test_different_pictures_are_no_twins(tmp_path):
    pictures = seen(tmp_path, {f"{number}.png": photo(number) for number in range(60)})
    assert list(near_duplicates(pictures)) == []
    turned = [(one, other) for one, other in itertools.combinations(pictures, 2) if one.alike == other.alike]
    assert turned == []


def test_equal_bytes_are_said_once_and_as_such(tmp_path):
    pictures = seen(tmp_path, {"a.png": photo(1), "b.png": photo(1), "c.png": photo(1)})
    assert [(one.code, one.file) for one in duplicates(pictures)] == [
        ("image-duplicate", "b.png"),
        ("image-duplicate", "c.png"),
    ]
    assert list(near_duplicates(pictures)) == []


def test_held_out_pictures_that_training_sees_are_named(tmp_path):
    for folder in ("train", "held"):
        (tmp_path / folder).mkdir()
    train = seen(tmp_path / "train", {"a.png": photo(1), "b.png": photo(2), "c.png": photo(3)})
    small = photo(2).resize((180, 135))
    held = seen(tmp_path / "held", {"x.png": photo(1), "y.png": small, "z.png": photo(9)})
    found = {one.file: one.reason for one in leaks(train, held, "held")}
    assert set(found) == {"a.png", "b.png"}
    assert "held/x.png" in found["a.png"]
    assert "held/y.png" in found["b.png"]


def test_time_grows_about_as_the_number_of_pictures():
    draw = random.Random(1)

    def some(count):
        one = Seen(file="", size=(64, 64))
        looks = [(draw.getrandbits(64), draw.getrandbits(64)) for _ in range(count)]
        return [
            dataclasses.replace(one, file=f"{n}", sha256=f"{n}", alike=alike, mirrored=mirrored)
            for n, (alike, mirrored) in enumerate(looks)
        ]

    def seconds(pictures):
        began = time.process_time()
        list(near_duplicates(pictures))
        return time.process_time() - began

    few, many = some(4_000), some(32_000)
    assert seconds(many) < 8 * 4 * max(seconds(few), 0.02)


def test_plain_pictures_of_one_colour_are_alike(tmp_path):
    plain = {f"{side}.png": Image.new("RGB", (side, side), (200, 30, 90)) for side in (64, 100, 333)}
    assert len(list(near_duplicates(seen(tmp_path, plain)))) == 2
