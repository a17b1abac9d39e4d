"""The only source of randomness: every draw is a pure function of what it is for.

No generator lives longer than one draw, so a snapshot stores no random state, and a resumed run, another number of
workers or another number of processes draws the same numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["generator", "seed_of", "seeded"]


def seed_of(seed: int, *purpose: int | str) -> int:
    """Return 63 bits that depend on every part of the purpose, the same on every machine and Python."""
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """Return a CPU generator for one draw, for example `generator(seed, step, sample, "noise")`.

    Draws happen on the CPU and move to the device afterwards: the numbers do not depend on the device.
    """
    return torch.Generator("cpu").manual_seed(seed_of(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: int | str) -> Iterator[None]:
    """Seed torch's global generators for a block, for draws that take no generator, and put them back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, *purpose))
        yield
