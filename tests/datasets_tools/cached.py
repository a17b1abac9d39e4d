"""Caches to test on: entries, the files that hold them, and faults while they are written."""

from functools import partial

import torch

from datasets_tools import storage
from datasets_tools.bucket import Bucket
from datasets_tools.cache import TensorCache, cache_key, tensors_digest

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


def fail_from(monkeypatch, number, error):
    """Raise at the n-th boundary and at all later ones; return the list that fills with what was passed."""
    passed = []

    def boundary(kind, path):
        passed.append(kind)
        if len(passed) >= number:
            raise error()

    monkeypatch.setattr(storage, "_boundary", boundary)
    return passed
