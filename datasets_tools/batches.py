"""Which images each step sees: a pure function of the buckets, the batch size, the seed and the step.

No generator state exists, so a run resumes at any step by asking again. The order comes from hashes rather than from a
library's shuffle, whose stream may change between versions.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm

from datasets_tools.bucket import Bucket
from datasets_tools.errors import InvalidSetting

__all__ = ["Batch", "Batches", "plan_epoch", "share"]

# Repeats are counted as fractions of at most this denominator, because floats drift: 100 * 0.29 is below 29.
_DENOMINATOR = 10**6


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One global batch: indices of images of one bucket, never empty."""

    indices: tuple[int, ...]
    epoch: int
    bucket: Bucket


class Batches:
    """The batches of a run by step. Keeps one epoch in memory.

    Args:
        buckets: the bucket of each sample.
        batch_size: the most samples of a batch.
        seed: of the order.
        repeats: how often each sample occurs per epoch, on average; None is once.

    Raises InvalidSetting for nothing to batch and for repeats that are not between 0.000001 and 1000000.
    """

    def __init__(
        self, buckets: Sequence[Bucket], batch_size: int, seed: int, repeats: Sequence[float] | None = None
    ) -> None:
        _check(buckets, batch_size)
        self._buckets = tuple(buckets)
        self._batch_size = batch_size
        self._seed = seed
        self._repeats = _fractions(repeats, len(self._buckets))
        self._ends = _Ends(self._buckets, batch_size, self._repeats)
        self._current: tuple[int, tuple[tuple[int, ...], ...]] = (-1, ())

    def at(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0, in constant time within an epoch.

        Epochs without a batch, which small repeats make, are passed over but counted.
        """
        if step < 0:
            raise InvalidSetting(f"step {step} is negative", hint="steps count from 0")
        epoch, place = self._ends.find(step)
        current, plan = self._current
        if current != epoch:
            plan = _plan(self._buckets, self._batch_size, self._repeats, seed=self._seed, epoch=epoch)
            self._current = (epoch, plan)
        indices = plan[place]
        return Batch(indices=indices, epoch=epoch, bucket=self._buckets[indices[0]])

    def steps(self, epochs: int) -> int:
        """Return how many batches the first `epochs` epochs have together."""
        return self._ends.before(epochs)


def plan_epoch(
    buckets: Sequence[Bucket], batch_size: int, *, seed: int, epoch: int, repeats: Sequence[float] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Return the batches of an epoch, in order, as indices into `buckets` (the bucket of each sample).

    Sample i occurs floor((epoch + 1) * r) - floor(epoch * r) times, r its repeats or 1: over epochs exactly r on
    average, without a draw. A batch holds one bucket only. The batches of a bucket differ in size by at most one (20
    images at batch size 8 make 7, 7 and 6), because a last batch of one image would weigh eight times as much. Copies
    of a sample go to different batches as long as its bucket has that many.
    """
    _check(buckets, batch_size)
    return _plan(buckets, batch_size, _fractions(repeats, len(buckets)), seed=seed, epoch=epoch)


def share(batch_indices: Sequence[int], rank: int, world: int) -> list[int | None]:
    """Return what one of `world` processes computes: equally long for all, padded with None.

    None means a sample that is computed with weight 0, so that every process takes the same number of steps.
    """
    if not 0 <= rank < world:
        raise InvalidSetting(f"rank {rank} is not one of {world} processes", hint=f"use 0 to {world - 1}")
    mine: list[int | None] = list(batch_indices[rank::world])
    return mine + [None] * (_batch_count(len(batch_indices), world) - len(mine))


class _Ends:
    """Where each epoch ends, in steps: counted from the fractions alone, without planning the epochs."""

    def __init__(self, buckets: Sequence[Bucket], batch_size: int, repeats: Sequence[Fraction]) -> None:
        self._batch_size = batch_size
        # samples of one bucket that repeat equally always occur equally often: one sum for all of them
        self._groups = [list(Counter(repeats[index] for index in group).items()) for group in _groups(buckets).values()]
        # the counts start over after this many epochs, 1 where every repeat is a whole number
        self._period = lcm(*(fraction.denominator for group in self._groups for fraction, _ in group))
        self._ends = array("q")

    def find(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step and the step's place in it."""
        while step >= (self._ends[-1] if self._ends else 0) and len(self._ends) < self._period:
            self._extend()
        rounds, rest = divmod(step, self._ends[-1]) if len(self._ends) == self._period else (0, step)
        epoch = bisect_right(self._ends, rest)
        return rounds * self._period + epoch, rest - (self._ends[epoch - 1] if epoch else 0)

    def before(self, epoch: int) -> int:
        """Return the step at which an epoch begins."""
        while len(self._ends) < min(epoch, self._period):
            self._extend()
        rounds, rest = divmod(epoch, self._period)
        return (rounds * self._ends[-1] if rounds else 0) + (self._ends[rest - 1] if rest else 0)

    def _extend(self) -> None:
        import numpy as np

        done = len(self._ends)
        # doubling keeps the number of calls small; 4096 epochs at a time bound the memory
        first = np.arange(done, min(done + min(max(done, 16), 4096), self._period), dtype=np.int64)
        batches = np.zeros_like(first)
        for group in self._groups:
            samples = np.zeros_like(first)
            for fraction, count in group:
                over, under = fraction.numerator, fraction.denominator
                samples += count * ((first + 1) * over // under - first * over // under)
            batches += -(-samples // self._batch_size)
        self._ends.extend((np.cumsum(batches) + (self._ends[-1] if self._ends else 0)).tolist())


def _plan(
    buckets: Sequence[Bucket], batch_size: int, repeats: Sequence[Fraction], *, seed: int, epoch: int
) -> tuple[tuple[int, ...], ...]:
    batches = []
    for group in _groups(buckets).values():
        order = sorted(group, key=lambda index: _ticket(seed, epoch, "image", index))
        copies = [(index, copy) for index in order for copy in range(_occurrences(repeats[index], epoch))]
        batches += _parts(copies, _batch_count(len(copies), batch_size))
    # the copy is part of the ticket: a sample may be the first of several batches
    batches.sort(key=lambda batch: _ticket(seed, epoch, f"batch{batch[0][1] or ''}", batch[0][0]))
    return tuple(tuple(index for index, _ in batch) for batch in batches)


def _parts(copies: list[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Return the copies in `count` parts that differ in length by at most one."""
    if any(copy for _, copy in copies):  # dealt like cards, neighbours part
        return [copies[part::count] for part in range(count)]
    return [copies[part * len(copies) // count : (part + 1) * len(copies) // count] for part in range(count)]


def _occurrences(repeat: Fraction, epoch: int) -> int:
    return (epoch + 1) * repeat.numerator // repeat.denominator - epoch * repeat.numerator // repeat.denominator


def _fractions(repeats: Sequence[float] | None, samples: int) -> tuple[Fraction, ...]:
    if repeats is None:
        return (Fraction(1),) * samples
    if len(repeats) != samples:
        raise InvalidSetting(
            f"{len(repeats)} repeats were given for {samples} samples", hint="give one for each sample, or none"
        )
    return tuple(map(_fraction, repeats))


@lru_cache(maxsize=4096)
def _fraction(repeat: float) -> Fraction:
    if not 1 / _DENOMINATOR <= repeat <= _DENOMINATOR:  # NaN fails this too
        raise InvalidSetting(
            f"repeats {repeat} is not between {1 / _DENOMINATOR:f} and {_DENOMINATOR}",
            hint="1 shows a picture once per epoch, 0.5 in every second one; leave out what should never be seen",
        )
    return Fraction(repeat).limit_denominator(_DENOMINATOR)


def _ticket(seed: int, epoch: int, kind: str, number: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{epoch}/{kind}/{number}".encode(), digest_size=16).digest()


def _groups(buckets: Sequence[Bucket]) -> dict[Bucket, list[int]]:
    groups: dict[Bucket, list[int]] = {}
    for index, bucket in enumerate(buckets):
        groups.setdefault(bucket, []).append(index)
    return groups


def _batch_count(images: int, batch_size: int) -> int:
    return -(-images // batch_size)


def _check(buckets: Sequence[Bucket], batch_size: int) -> None:
    if not buckets:
        raise InvalidSetting("there are no images to make batches of", hint="check the folder first")
    if batch_size < 1:
        raise InvalidSetting(f"batch size {batch_size} is below 1", hint="use 1 or more")
