"""What was written down about pictures is never believed against the pictures, and damage to it is found."""

import json
import os
from dataclasses import replace

import pytest

from datasets_tools import DataSettings, prepare_folder, read_manifest
from datasets_tools.bucket import BucketRule
from datasets_tools.errors import InvalidManifest
from datasets_tools.journal import Journal
from datasets_tools.look import Look, look_at
from tests.datasets_tools.corpus import encoded, photos, scene

WANTED = DataSettings(rule=BucketRule(resolution=64, step=8))


def same_to_the_eye_of_the_file_system(file, data):
    """Give a file other bytes and the times and size it had."""
    status = file.stat()
    assert len(data) == status.st_size
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def prepared(folder, place):
    prepare_folder(folder, WANTED, journal=Journal(place))
    return {record.file: record for record in read_manifest(folder / "manifest.jsonl").records}


def test_an_edited_picture_of_the_same_size_and_time_is_looked_at_again(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bmp").write_bytes(encoded(scene(40, 30, seed=number), "BMP").ljust(4000, b"\0"))
    before = prepared(folder, tmp_path / "scan.jsonl")
    edited = encoded(scene(30, 40, seed=8), "BMP").ljust(4000, b"\0")
    same_to_the_eye_of_the_file_system(folder / "1.bmp", edited)
    after = prepared(folder, tmp_path / "scan.jsonl")
    assert after["1.bmp"].sha256 != before["1.bmp"].sha256
    assert (after["1.bmp"].width, after["1.bmp"].height) == (30, 40)
    assert (after["0.bmp"], after["2.bmp"]) == (before["0.bmp"], before["2.bmp"])


def test_pictures_whose_names_are_swapped_are_known_by_their_bytes_and_keep_their_captions_by_name(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 30), (30, 40)]):
        (folder / f"{number}.bmp").write_bytes(encoded(scene(*size, seed=number), "BMP").ljust(4000, b"\0"))
        (folder / f"{number}.txt").write_text(f"caption {number}")
    before = prepared(folder, tmp_path / "scan.jsonl")
    kept = (tmp_path / "scan.jsonl").read_bytes()
    one, other = ((folder / f"{number}.bmp").read_bytes() for number in range(2))
    same_to_the_eye_of_the_file_system(folder / "0.bmp", other)
    same_to_the_eye_of_the_file_system(folder / "1.bmp", one)
    after = prepared(folder, tmp_path / "scan.jsonl")
    assert after["0.bmp"] == replace(before["1.bmp"], file="0.bmp", caption="caption 0")
    assert after["1.bmp"] == replace(before["0.bmp"], file="1.bmp", caption="caption 1")
    assert (tmp_path / "scan.jsonl").read_bytes() == kept


@pytest.fixture(scope="module")
def journaled(tmp_path_factory):
    """Twenty files with their journal: three pictures, the rest refused for different reasons."""
    folder = tmp_path_factory.mktemp("journaled")
    whole = encoded(scene(16, 12), "PNG")
    for number in range(20):
        data = encoded(scene(16, 12, seed=number), "PNG") if number % 7 == 0 else whole[: 3 * number]
        (folder / f"{number:02}.png").write_bytes(data)
    place = folder.parent / f"{folder.name}.jsonl"
    return folder, place, seen_of(folder, place), place.read_bytes()


def seen_of(folder, place):
    look = Look(folder=folder, journal=Journal(place))
    return [told(look_at(path.name, look)) for path in sorted(folder.iterdir())]


def told(seen):
    """Return what was seen as a value: errors are compared by what they say."""
    return replace(seen, refused=None), str(seen.refused), seen.refused and seen.refused.hint


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80])
def test_a_flipped_byte_anywhere_in_the_journal_changes_no_result(journaled, tmp_path, change):
    folder, _, expected, data = journaled
    place = tmp_path / "scan.jsonl"
    assert len(data.splitlines()) == 20
    for offset in range({0x01: 0, 0x20: 2, 0x80: 4}[change], len(data), 21):  # together every seventh
        damaged = bytearray(data)
        damaged[offset] ^= change
        place.write_bytes(damaged)
        assert seen_of(folder, place) == expected, offset


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data + data,
        lambda data: data.replace(b"\n", b""),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\n" * 500 + data,
        lambda data: bytes(5000),
        lambda data: b"\x80\xff" * 2000 + b"\n" + data,
        lambda data: b"\n".join(reversed(data.splitlines())) + b"\n",
        lambda data: data.replace(b'"sha256"', b'"sha255"'),
        lambda data: b'0000000000000000 ["' * 50 + b"\n" + data,
    ],
)
def test_a_journal_in_any_disorder_changes_no_result_and_serves_again(journaled, tmp_path, damage):
    folder, _, expected, data = journaled
    place = tmp_path / "scan.jsonl"
    place.write_bytes(damage(data))
    assert seen_of(folder, place) == expected
    size = place.stat().st_size
    assert seen_of(folder, place) == expected
    assert place.stat().st_size == size  # what was added is found


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A manifest with everything that one can hold."""
    folder = photos(tmp_path_factory.mktemp("manifest"), 3)
    (folder / "rights.csv").write_text("file_name,owner,expires\n*,Ada,2030-01-01\n")
    prepare_folder(folder, WANTED)
    return folder / "manifest.jsonl"


WRONG = [
    (
        "file",
        [5, None, "", ".", "..", "../a.png", "a/../../b.png", "a/../b.png", "/a.png", "C:\\a.png", "\\\\s\\a.png"],
    ),
    ("file", ["a\0b.png"]),
    ("sha256", [5, None]),
    ("bytes", [1.5, True, "1", None, -1]),
    ("width", [0, -1, 1.5, True, "8", None]),
    ("caption", [5, None, ["a"]]),
    ("trigger", [5, None, []]),
    ("orientation", ["1", 0, 9, 1.5, True, None]),
    ("repeats", ["many", -1, 0, 10**400, float("nan"), float("inf"), None, [], True]),
    ("rights", [5, "Ada", [], {"owner": 5}, {"owner": None}, {"owners": "Ada"}]),
    ("bucket", [5, [], {"width": 8}, {"width": 0, "height": 8}, {"width": "8", "height": 8}]),
    ("crop", [5, {}, {"box": 5}, {"resized": [8, 8], "box": [1], "area_kept": 1.0, "upscale": 1.0}]),
    ("crop", [{"resized": ["8", 8], "box": [0, 0, 8, 8], "area_kept": 1.0, "upscale": 1.0}]),
    ("findings", [5, "code", [5], {"a": 1}, None]),
    ("unknown", [1]),
]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG for value in values])
def test_a_wrong_value_in_a_manifest_is_refused_with_its_line(manifest, tmp_path, field, value):
    lines = manifest.read_text(encoding="utf-8").splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), field: value})
    damaged = tmp_path / "manifest.jsonl"
    damaged.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InvalidManifest, match="line 2") as refused:
        read_manifest(damaged)
    assert refused.value.hint


def test_a_flipped_byte_in_a_manifest_is_refused_with_its_line_or_is_another_value(manifest, tmp_path):
    data = manifest.read_bytes()
    damaged = tmp_path / "manifest.jsonl"
    refused = []
    for place in range(0, len(data), 3):
        for change in (0x01, 0x80):
            flipped = bytearray(data)
            flipped[place] ^= change
            damaged.write_bytes(flipped)
            try:
                read_manifest(damaged)
            except InvalidManifest as error:
                refused.append((f"line {1 + data[:place].count(10)}", str(error)))
    assert len(refused) > len(data) // 3
    assert [said for line, said in refused if line not in said] == []
