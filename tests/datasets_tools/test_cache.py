from functools import partial
from hashlib import sha256

import pytest
import torch

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
    return sorted(folder.glob("*.safetensors"))


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
    for kept in flips(whole):
        for other in shards(tmp_path):
            other.unlink()
        shard.write_bytes(whole[:kept])
        lost = len(read_all(tmp_path, entries))
        assert lost == 7 or kept > 7 * 80
        assert lost > 0
        assert not read_all(tmp_path, entries)
    shard.write_bytes(whole[:-1])
    assert len(lost_last := read_all(tmp_path, entries)) <= 1, lost_last


def test_an_entry_under_the_wrong_key_is_not_believed(tmp_path):
    one, other = filled(tmp_path / "one", 1)[1], cache_key(image="cd")
    named = one.read_bytes().replace(cache_key(number=0).encode(), other.encode())
    header = named[: 8 + int.from_bytes(named[:8], "little")]
    (tmp_path / "one" / f"{sha256(header).hexdigest()}.safetensors").write_bytes(named)
    cache = TensorCache(tmp_path / "one")
    assert cache.has(other)
    assert same(cache.get(other, lambda: {"x": torch.ones(2)}), {"x": torch.ones(2)})


def test_a_full_disk_is_said_and_leaves_no_half_entry(tmp_path, monkeypatch):
    def boundary(kind, path):
        if kind == "fsync":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_boundary", boundary)
    with pytest.raises(OutOfSpace):
        TensorCache(tmp_path).get(KEY, tensors)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_an_error_while_making_passes_through(tmp_path):
    with pytest.raises(ZeroDivisionError):
        TensorCache(tmp_path).get(KEY, lambda: 1 / 0)
    assert not TensorCache(tmp_path).has(KEY)


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
