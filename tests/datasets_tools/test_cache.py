import logging

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


def test_any_flipped_byte_and_any_cut_is_noticed_computed_again_and_logged(tmp_path, caplog):
    cache = TensorCache(tmp_path)
    cache.get(KEY, tensors)
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    damaged = [whole[:cut] for cut in (0, 5, 40, len(whole) - 1)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for data in damaged:
        file.write_bytes(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="datasets_tools"):
            result = cache.get(KEY, tensors)
        assert same(result, tensors())
        assert f"{file} is damaged" in caplog.text
        assert same(cache.get(KEY, never), tensors())


def test_an_entry_under_the_wrong_key_is_not_believed(tmp_path):
    cache = TensorCache(tmp_path)
    cache.get(KEY, tensors)
    other = cache_key(image="cd")
    target = tmp_path / other[:2] / f"{other}.safetensors"
    target.parent.mkdir(exist_ok=True)
    next(tmp_path.rglob(f"{KEY}*")).rename(target)
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
