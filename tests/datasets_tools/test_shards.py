import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from hashlib import sha256
from time import time

import torch
from safetensors import safe_open

from datasets_tools.cache import TensorCache, cache_key
from tests.datasets_tools.cached import KEY, fail_from, filled, never, read_all, same, shards, tensors


class Killed(BaseException):
    """As a kill: nothing after it is written."""


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


def test_a_shard_is_a_safetensors_file_named_by_its_header(tmp_path):
    entries, shard = filled(tmp_path)
    with safe_open(shard, framework="pt") as file:
        assert sorted(file.keys()) == sorted(entries)
    data = shard.read_bytes()
    assert shard.stem == sha256(data[: 8 + int.from_bytes(data[:8], "little")]).hexdigest()


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
