import errno
import tracemalloc
from contextlib import nullcontext
from time import process_time

import pytest
import torch
from safetensors.torch import save_file

from datasets_tools.bucket import Bucket
from datasets_tools.cache import TensorCache, cache_key
from datasets_tools.errors import OutOfSpace
from tests.datasets_tools.cached import KEY, fail_from, filled, never, read_all, same, shards, tensors


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
