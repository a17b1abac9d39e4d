"""Which images each step sees: a pure function of the buckets, the batch size, the seed and the step.

No generator state exists, so a run resumes at any step by asking again. The order comes from hashes rather than from a
library's shuffle, whose stream may change between versions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_tools.bucket import Bucket
from datasets_tools.errors import InvalidSetting

__all__ = ["Batch", "Batches", "plan_epoch", "share"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One global batch: indices of images of one bucket, never empty."""

    indices: tuple[int, ...]
    epoch: int
    bucket: Bucket


class Batches:
    """The batches of a run by step. Keeps one epoch in memory."""

    def __init__(self, buckets: Sequence[Bucket], batch_size: int, seed: int) -> None:
        _check(buckets, batch_size)
        self._buckets = tuple(buckets)
        self._batch_size = batch_size
        self._seed = seed
        self._current: tuple[int, tuple[tuple[int, ...], ...]] = (-1, ())
        self.per_epoch = sum(_batch_count(len(group), batch_size) for group in _groups(buckets).values())

    def at(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0, in constant time within an epoch."""
        if step < 0:
            raise InvalidSetting(f"step {step} is negative", hint="steps count from 0")
        epoch, place = divmod(step, self.per_epoch)
        current, plan = self._current
        if current != epoch:
            plan = plan_epoch(self._buckets, self._batch_size, seed=self._seed, epoch=epoch)
            self._current = (epoch, plan)
        indices = plan[place]
        return Batch(indices=indices, epoch=epoch, bucket=self._buckets[indices[0]])


def plan_epoch(buckets: Sequence[Bucket], batch_size: int, *, seed: int, epoch: int) -> tuple[tuple[int, ...], ...]:
    """Return the batches of an epoch, in order, as indices into `buckets` (the bucket of each image).

    Every image occurs exactly once and a batch holds one bucket only. The batches of a bucket differ in size by at most
    one (20 images at batch size 8 make 7, 7 and 6), because a last batch of one image would weigh eight times as much.
    """
    _check(buckets, batch_size)
    batches = []
    for group in _groups(buckets).values():
        order = sorted(group, key=lambda index: _ticket(seed, epoch, "image", index))
        count = _batch_count(len(order), batch_size)
        batches += [
            tuple(order[part * len(order) // count : (part + 1) * len(order) // count]) for part in range(count)
        ]
    return tuple(sorted(batches, key=lambda batch: _ticket(seed, epoch, "batch", batch[0])))


def share(batch_indices: Sequence[int], rank: int, world: int) -> list[int | None]:
    """Return what one of `world` processes computes: equally long for all, padded with None.

    None means a sample that is computed with weight 0, so that every process takes the same number of steps.
    """
    if not 0 <= rank < world:
        raise InvalidSetting(f"rank {rank} is not one of {world} processes", hint=f"use 0 to {world - 1}")
    mine: list[int | None] = list(batch_indices[rank::world])
    return mine + [None] * (_batch_count(len(batch_indices), world) - len(mine))


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
