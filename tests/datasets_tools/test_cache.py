import errno
import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext, suppress
from functools import partial
from hashlib import sha256
from time import process_time, time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from datasets_tools import storage
from datasets_tools.bucket import Bucket
from datasets_tools.cache import TensorCache, cache_key, tensors_digest
from datasets_tools.errors import OutOfSpace

KEY = cache_key(image="ab", bucket=Bucket(width=64, height=64))


def tensors():
    return {
        "latents": torch.linspace(-1, 1, 24).reshape(2, 3, 4),
        "half": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }


def never():
    raise AssertionError("the entry should have been read")


def same(one, other):
    return tensors_digest(one) == tensors_digest(other)


def test_an_entry_is_made_once_and_read_back_bit_equal(tmp_path):
    cache = TensorCache(tmp_path / "cache ü")
    assert not cache.has(KEY)
    assert same(cache.get(KEY, tensors), tensors())
    assert cache.has(KEY)
    again = TensorCache(tmp_path / "cache ü").get(KEY, never)
    assert same(again, tensors())
    assert again["half"].dtype == torch.bfloat16
    assert again["count"].shape == ()


def test_views_and_tensors_with_gradients_are_stored(tmp_path):
    weight = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    stored = TensorCache(tmp_path).get(KEY, lambda: {"a": weight.t(), "b": weight[:2], "c": weight[:2]})
    assert not stored["a"].requires_grad
    assert same(TensorCache(tmp_path).get(KEY, never), stored)


def filled(folder, count=7):
    """A cache with one shard of `count` entries; return its keys, what belongs to each, and the shard."""
    entries = {cache_key(number=number): {"x": torch.full((number, 5), number)} for number in range(count)}
    with TensorCache(folder) as cache:
        for key, entry in entries.items():
            cache.get(key, partial(dict, entry))
    (shard,) = shards(folder)
    return entries, shard


def shards(folder):
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))


def read_all(folder, entries):
    """Read every entry as a new process would and return the keys that had to be made."""
    made = []

    def make(key):
        made.append(key)
        return entries[key]

    cache = TensorCache(folder)
    for key, entry in entries.items():
        assert same(cache.get(key, partial(make, key)), entry)
    return made


def flips(data):
    """About 400 places all over the data, and each byte of the first hundred."""
    return [*range(100), *range(100, len(data), max(1, len(data) // 300))]


def test_a_flipped_byte_costs_one_entry_and_says_so(tmp_path, caplog):
    entries, shard = filled(tmp_path)
    whole = shard.read_bytes()
    for at in flips(whole):
        for other in shards(tmp_path):
            other.unlink()
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        caplog.clear()
        assert len(made := read_all(tmp_path, entries)) <= 1
        assert f"{shard} is damaged" in caplog.text
        assert all(key in caplog.text for key in made)
        assert not read_all(tmp_path, entries)


def test_a_flipped_byte_in_an_entry_is_never_overlooked(tmp_path):
    entries, shard = filled(tmp_path, 1)
    whole = shard.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for at in range(start, len(whole)):
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :])
        assert read_all(tmp_path, entries) == list(entries)
        assert shard.read_bytes() == whole  # the same entry makes the same file


def test_a_cut_shard_keeps_what_lies_before_the_cut(tmp_path):
    entries, shard = filled(tmp_path)
    whole = shard.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    for kept in [*range(0, 100, 20), *range(100, len(whole), len(whole) // 40)]:
        for other in shards(tmp_path):
            other.unlink()
        shard.write_bytes(whole[:kept])
        lost = read_all(tmp_path, entries)
        assert lost == [key for key in entries if start + header[key]["data_offsets"][1] > kept]
        assert not read_all(tmp_path, entries)


def test_an_entry_under_the_wrong_key_is_not_believed(tmp_path):
    one, other = filled(tmp_path / "one", 1)[1], cache_key(image="cd")
    named = one.read_bytes().replace(cache_key(number=0).encode(), other.encode())
    header = named[: 8 + int.from_bytes(named[:8], "little")]
    (tmp_path / "one" / f"{sha256(header).hexdigest()}.safetensors").write_bytes(named)
    cache = TensorCache(tmp_path / "one")
    assert cache.has(other)
    assert same(cache.get(other, lambda: {"x": torch.ones(2)}), {"x": torch.ones(2)})


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
def test_every_dtype_and_shape_comes_back_bit_equal(tmp_path, dtype, shape):
    made = {"x": torch.randn(shape, generator=torch.Generator().manual_seed(1)).mul(50).to(dtype)}
    TensorCache(tmp_path).get(KEY, lambda: made)
    read = TensorCache(tmp_path).get(KEY, never)
    assert (read["x"].dtype, read["x"].shape) == (dtype, shape)
    assert same(read, made)


def test_what_is_read_may_be_changed_without_changing_the_cache(tmp_path):
    cache = TensorCache(tmp_path)
    cache.get(KEY, tensors)
    cache.get(KEY, never)["latents"].zero_()
    assert same(cache.get(KEY, never), tensors())


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_entries_are_written_together_at_the_end(tmp_path):
    with TensorCache(tmp_path) as cache:
        for number in range(20):
            cache.get(cache_key(number=number), tensors)
            assert cache.has(cache_key(number=number))
        assert shards(tmp_path) == []
    assert len(shards(tmp_path)) == 1


def test_entries_are_written_after_15_seconds(tmp_path):
    clock = Clock()
    with TensorCache(tmp_path, clock=clock) as cache:
        for number, now in enumerate([100, 114.9, 115, 116, 129.9, 130]):
            clock.now = now
            cache.get(cache_key(number=number), tensors)
            assert len(shards(tmp_path)) == (now >= 115) + (now >= 130)


def test_512_entries_or_64_megabytes_are_written_at_once(tmp_path):
    with TensorCache(tmp_path / "many") as cache:
        for number in range(513):
            cache.get(cache_key(number=number), lambda: {"x": torch.zeros(1)})
            assert len(shards(tmp_path / "many")) == (number >= 511)
    with TensorCache(tmp_path / "large") as cache:
        for number in range(5):
            cache.get(cache_key(number=number), lambda: {"x": torch.zeros(4_000_001)})
            assert len(shards(tmp_path / "large")) == (number >= 3)


def test_a_gathered_entry_is_not_made_again(tmp_path):
    with TensorCache(tmp_path) as cache:
        cache.get(KEY, tensors)
        assert same(cache.get(KEY, never), tensors())


def make_one_and_fail(folder):
    with TensorCache(folder) as cache:
        cache.get(KEY, tensors)
        cache.get(cache_key(number=1), lambda: 1 / 0)


def test_what_was_made_before_an_error_is_kept(tmp_path):
    with pytest.raises(ZeroDivisionError):
        make_one_and_fail(tmp_path)
    assert same(TensorCache(tmp_path).get(KEY, never), tensors())


def test_nested_use_writes_at_the_outer_end(tmp_path):
    with TensorCache(tmp_path) as cache:
        with cache:
            cache.get(KEY, tensors)
        assert shards(tmp_path) == []
    assert len(shards(tmp_path)) == 1


def test_a_shard_is_a_safetensors_file_named_by_its_header(tmp_path):
    entries, shard = filled(tmp_path)
    with safe_open(shard, framework="pt") as file:
        assert sorted(file.keys()) == sorted(entries)
    data = shard.read_bytes()
    assert shard.stem == sha256(data[: 8 + int.from_bytes(data[:8], "little")]).hexdigest()


def test_the_cache_before_shards_and_other_files_are_left_alone(tmp_path):
    old = tmp_path / KEY[:2] / f"{KEY}.safetensors"
    save_file(tensors(), make_folder(old))
    (tmp_path / "notes.txt").write_text("mine")
    save_file(tensors(), tmp_path / "other.safetensors")
    cache = TensorCache(tmp_path)
    assert not cache.has(KEY)
    filled_one = cache.get(KEY, tensors)
    cache.compact()
    assert same(filled_one, TensorCache(tmp_path).get(KEY, never))
    assert old.is_file()
    assert {path.name for path in tmp_path.iterdir()} >= {"notes.txt", "other.safetensors", KEY[:2]}


def make_folder(file):
    file.parent.mkdir(parents=True)
    return file


def test_what_another_process_stores_is_found(tmp_path):
    mine, theirs = TensorCache(tmp_path), TensorCache(tmp_path)
    assert not mine.has(KEY)
    theirs.get(KEY, tensors)
    assert mine.has(KEY)
    assert same(mine.get(KEY, never), tensors())


def test_what_is_stored_within_one_tick_of_the_folders_clock_is_found(tmp_path):
    mine = TensorCache(tmp_path)
    mine.get(cache_key(number=0), tensors)
    assert not mine.has(KEY)
    listed = tmp_path.stat().st_mtime_ns
    TensorCache(tmp_path).get(KEY, tensors)
    os.utime(tmp_path, ns=(listed, listed))
    assert mine.has(KEY)


def test_of_two_entries_the_newer_is_read_so_that_damage_is_said_once(tmp_path, caplog):
    entries, shard = filled(tmp_path)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert len(read_all(tmp_path, entries)) == 1
    os.utime(shard, (0, 0))
    caplog.clear()
    assert not read_all(tmp_path, entries)
    assert not caplog.text


def test_what_another_process_has_merged_is_found(tmp_path, caplog):
    entries = {cache_key(number=number): {"x": torch.full((3,), number)} for number in range(6)}
    for key, entry in entries.items():
        TensorCache(tmp_path).get(key, partial(dict, entry))
    mine = TensorCache(tmp_path)
    assert all(map(mine.has, entries))
    TensorCache(tmp_path).compact()
    assert len(shards(tmp_path)) == 1
    for key, entry in entries.items():
        assert same(mine.get(key, never), entry)
    assert not caplog.text


FILL = """
import sys
from pathlib import Path
import torch
from datasets_tools.cache import TensorCache, cache_key

folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for start in range(first, last, 10):
    with TensorCache(folder) as cache:
        for number in range(start, start + 10):
            read = cache.get(cache_key(number=number), lambda: {"x": torch.full((100,), number)})
            assert read["x"].eq(number).all(), number
    cache.compact()
"""


def test_two_processes_fill_and_merge_one_folder_at_once(tmp_path):
    commands = [[sys.executable, "-c", FILL, str(tmp_path), *map(str, span)] for span in ((0, 300), (200, 500))]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    said = [process.communicate()[1] for process in processes]
    assert said == [b"", b""]
    assert not read_all(tmp_path, {cache_key(number=n): {"x": torch.full((100,), n)} for n in range(500)})


def test_a_full_disk_is_said_and_leaves_no_half_entry(tmp_path, monkeypatch):
    fail_from(monkeypatch, 1, lambda: OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OutOfSpace):
        TensorCache(tmp_path).get(KEY, tensors)
    with pytest.raises(OutOfSpace), TensorCache(tmp_path) as cache:
        cache.get(KEY, tensors)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_full_disk_does_not_hide_the_first_error(tmp_path, monkeypatch, caplog):
    fail_from(monkeypatch, 1, lambda: OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ZeroDivisionError):
        make_one_and_fail(tmp_path)
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize("gather", [True, False])
def test_where_nothing_can_be_written_entries_are_made_and_that_is_said_once(tmp_path, monkeypatch, caplog, gather):
    fail_from(monkeypatch, 1, lambda: OSError(errno.EROFS, "Read-only file system"))
    cache = TensorCache(tmp_path)
    with cache if gather else nullcontext():
        for _ in range(2):
            for number in range(600):
                made = cache.get(cache_key(number=number), lambda: {"x": torch.ones(2)})
                assert same(made, {"x": torch.ones(2)})
    assert caplog.text.count("nothing is cached") == 1
    assert "Read-only file system" in caplog.text


def test_where_nothing_can_be_written_what_is_there_is_read(tmp_path, monkeypatch):
    entries, _ = filled(tmp_path)
    fail_from(monkeypatch, 1, lambda: OSError(errno.EROFS, "Read-only file system"))
    assert not read_all(tmp_path, entries)


def test_a_file_in_the_place_of_the_folder_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert same(TensorCache(tmp_path / "file" / "cache").get(KEY, tensors), tensors())
    assert "nothing is cached" in caplog.text


class Killed(BaseException):
    """As a kill: nothing after it is written."""


def fail_from(monkeypatch, number, error):
    """Raise at the n-th boundary and at all later ones; return the list that fills with what was passed."""
    passed = []

    def boundary(kind, path):
        passed.append(kind)
        if len(passed) >= number:
            raise error()

    monkeypatch.setattr(storage, "_boundary", boundary)
    return passed


def test_a_kill_at_any_point_of_writing_leaves_entries_whole_or_absent(tmp_path, monkeypatch, caplog):
    entries = {cache_key(number=number): {"x": torch.full((3,), number)} for number in range(4)}
    for number in range(1, 9):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch, suppress(Killed):
            fail_from(patch, number, Killed)
            for key, entry in entries.items():
                TensorCache(folder).get(key, partial(dict, entry))
        read_all(folder, entries)
        assert not read_all(folder, entries)
    assert "damaged" not in caplog.text


def scattered(folder, count=5):
    """Shards of one entry each, one of them damaged, and one entry held twice; return the whole entries."""
    entries = {cache_key(number=number): {"x": torch.full((3,), number)} for number in range(count)}
    for key, entry in entries.items():
        TensorCache(folder).get(key, partial(dict, entry))
    with TensorCache(folder / "twice") as cache:
        for key in list(entries)[:2]:
            cache.get(key, partial(dict, entries[key]))
    (twice,) = shards(folder / "twice")
    twice.rename(folder / twice.name)
    TensorCache(folder).get(KEY, tensors)
    (damaged,) = [path for path in shards(folder) if KEY.encode() in path.read_bytes()]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    return entries


def test_compacting_merges_small_and_damaged_shards_and_keeps_every_whole_entry(tmp_path):
    entries = scattered(tmp_path)
    assert len(shards(tmp_path)) == 7
    cache = TensorCache(tmp_path)
    cache.compact()
    (shard,) = shards(tmp_path)
    with safe_open(shard, framework="pt") as file:
        assert sorted(file.keys()) == sorted(cache_key(number=number) for number in range(5))
    assert cache.has(KEY) is False
    assert not read_all(tmp_path, entries)
    before = shard.stat().st_mtime_ns
    cache.compact()
    assert shards(tmp_path) == [shard]
    assert shard.stat().st_mtime_ns == before


def test_compacting_leaves_full_shards_and_mends_damaged_ones(tmp_path):
    entries, _ = filled(tmp_path, 512)
    (full,) = shards(tmp_path)
    TensorCache(tmp_path).get(KEY, tensors)
    TensorCache(tmp_path).compact()
    assert len(shards(tmp_path)) == 2
    data = full.read_bytes()
    full.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    TensorCache(tmp_path).compact()
    (merged,) = shards(tmp_path)
    assert merged != full
    assert len(read_all(tmp_path, entries)) == 1
    assert same(TensorCache(tmp_path).get(KEY, never), tensors())


def numbered(folder, numbers):
    """One shard with an entry for each number."""
    with TensorCache(folder) as cache:
        for number in numbers:
            cache.get(cache_key(number=number), lambda number=number: {"x": torch.full((3,), number)})


def counts(folder):
    found = []
    for shard in shards(folder):
        with safe_open(shard, framework="pt") as file:
            found.append(len(file.keys()))
    return sorted(found)


def test_compacting_fills_shards_to_512_entries(tmp_path):
    for start in (0, 200, 400):
        numbered(tmp_path, range(start, start + 200))
    TensorCache(tmp_path).compact()
    assert counts(tmp_path) == [88, 512]


def test_compacting_drops_what_a_full_shard_holds_already(tmp_path):
    numbered(tmp_path / "other", range(3))
    numbered(tmp_path, range(512))
    for shard in shards(tmp_path / "other"):
        shard.rename(tmp_path / shard.name)
    numbered(tmp_path, [600])
    TensorCache(tmp_path).compact()
    assert counts(tmp_path) == [1, 512]


def test_compacting_removes_what_a_writer_left_aside_long_ago(tmp_path):
    old, young = (tmp_path / f".part-{name}.safetensors" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (time() - 100_000, time() - 100_000))
    TensorCache(tmp_path).compact()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_kill_at_any_point_of_compacting_loses_nothing(tmp_path, monkeypatch):
    for number in range(1, 13):
        folder = tmp_path / str(number)
        entries = scattered(folder)
        removed = []

        def unlink(path, removed=removed, number=number, unlink=os.unlink):
            removed.append(path)
            if len(removed) > number - 5:  # after the four boundaries of writing, a kill between two removals
                raise Killed
            unlink(path)

        with monkeypatch.context() as patch, suppress(Killed):
            if number <= 4:
                fail_from(patch, number, Killed)
            patch.setattr("datasets_tools.shards.os.unlink", unlink)
            TensorCache(folder).compact()
        assert not read_all(folder, entries)
        TensorCache(folder).compact()
        assert len(shards(folder)) == 1
        assert not read_all(folder, entries)


def test_an_error_while_making_passes_through(tmp_path):
    with pytest.raises(ZeroDivisionError):
        TensorCache(tmp_path).get(KEY, lambda: 1 / 0)
    assert not TensorCache(tmp_path).has(KEY)


def test_20_000_entries_open_in_a_second_and_are_read_in_a_millisecond_each(tmp_path):
    keys = [cache_key(number=number) for number in range(20_000)]
    entry = {"x": torch.zeros(16)}
    with TensorCache(tmp_path) as cache:
        for key in keys:
            cache.get(key, lambda: entry)
    assert len(shards(tmp_path)) == 40
    cache = TensorCache(tmp_path)
    started = process_time()
    assert cache.has(keys[0])
    assert process_time() - started < 1
    started = process_time()
    for key in keys[::20]:
        cache.get(key, never)
    assert (process_time() - started) / 1000 < 0.001


def test_memory_stays_at_some_full_shards_however_much_is_stored(tmp_path):
    tracemalloc.start()
    try:
        with TensorCache(tmp_path) as cache:
            for number in range(160):
                cache.get(cache_key(number=number), lambda: {"x": torch.zeros(500_000)})
        assert tracemalloc.get_traced_memory()[1] < 4 * 66e6  # 320 MB were stored
        tracemalloc.reset_peak()
        cache = TensorCache(tmp_path)
        for number in range(160):
            cache.get(cache_key(number=number), never)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


PARTS = {"image": "ab", "bucket": Bucket(width=64, height=64), "encoder": "v1", "dtype": "float32", "scale": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"image": "abc"},
        {"bucket": Bucket(width=64, height=128)},
        {"encoder": "v2"},
        {"dtype": "bfloat16"},
        {"scale": 0.25},
        {"flip": True},
    ],
)
def test_every_part_changes_the_key(change):
    assert cache_key(**PARTS) != cache_key(**(PARTS | change))


def test_the_key_depends_on_values_not_on_order_and_stays_the_same_over_time():
    assert cache_key(**PARTS) == cache_key(**dict(reversed(PARTS.items())))
    assert cache_key(image="ab", steps=[1, 2]) == cache_key(image="ab", steps=(1, 2))
    assert cache_key(a=1) == "1c382f5108e658baf3069ba5849456ce6439bda7930797dcf277a571dba6983e"


@pytest.mark.parametrize("part", [object(), b"bytes", {1, 2}, float("nan")])
def test_a_part_without_canonical_form_is_refused(part):
    with pytest.raises((TypeError, ValueError)):
        cache_key(part=part)
