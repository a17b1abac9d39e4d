"""What was seen of many pictures comes back as it was, from a fraction of the memory."""

import random
import tracemalloc
from dataclasses import replace

import pytest

from datasets_tools.alike import near_duplicates
from datasets_tools.compact import Computed
from datasets_tools.errors import UnreadableImage
from datasets_tools.look import Look, Seen, look_at
from datasets_tools.looked import Looked
from datasets_tools.quality import Quality
from tests.datasets_tools.corpus import encoded, scene

PLAIN = Seen(file="a.png", sha256="ab" * 32, bytes=5, size=(3, 4), format="PNG")
RICH = Seen(
    file="ü/b.jpg",
    sha256="0f" * 32,
    bytes=600_000_000,
    size=(16_384, 1),
    format="JPEG",
    orientation=8,
    alike=2**64 - 1,
    mirrored=2**63 + 1,
    colour=(1 / 3, 254.999, 0.1),
    notes=("animated", "icc-broken"),
    jpeg_quality=100,
    quality=Quality(blur=1 / 7, blockiness=23.9, border=(0.1, 0.0, 0.3, 1 / 9), lettering=0.0025),
)


def kept(*pictures: Seen) -> Looked:
    looked = Looked()
    for one in pictures:
        looked.add(one)
    return looked


def test_every_value_comes_back_exactly():
    assert list(kept(PLAIN, RICH, PLAIN).at([1, 0])) == [RICH, PLAIN]


def test_a_real_look_comes_back_without_its_colours(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(scene(), "JPEG", quality=60))
    seen = look_at("a.jpg", Look(folder=tmp_path))
    assert seen.quality.colours
    assert list(kept(seen).at([0])) == [replace(seen, quality=replace(seen.quality, colours=()))]


def test_files_that_cannot_be_read_are_kept_with_their_reason():
    looked = kept(PLAIN, Seen(file="bad.png", refused=UnreadableImage("it is empty", hint="copy it", passing=True)))
    [bad] = looked.refused()
    assert (bad.file, bad.sha256) == ("bad.png", "")
    assert (str(bad.refused), bad.refused.hint, bad.refused.passing) == ("it is empty", "copy it", True)
    assert [looked.is_readable(place) for place in (0, 1)] == [True, False]


def test_a_computed_sequence_is_read_like_a_list():
    numbers = Computed(5, lambda index: index * index)
    assert list(numbers) == [0, 1, 4, 9, 16]
    assert (numbers[-1], numbers[1:3], len(numbers)) == (16, (1, 4), 5)
    assert numbers == (0, 1, 4, 9, 16)
    assert numbers != [0, 1, 4, 9]
    with pytest.raises(IndexError):
        numbers[5]


def test_what_is_known_of_a_picture_takes_200_bytes_and_the_search_for_twins_100_more():
    draw = random.Random(1)
    pictures = [
        replace(RICH, file=f"{n}", sha256=f"{n:064x}", alike=draw.getrandbits(64), mirrored=draw.getrandbits(64))
        for n in range(5000)
    ]
    tracemalloc.start()
    looked = kept(*pictures)
    held, _ = tracemalloc.get_traced_memory()
    assert held < 200 * 5000
    assert list(near_duplicates(looked.at(range(5000)))) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - held < 100 * 5000 + 500_000
