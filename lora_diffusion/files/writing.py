"""Safetensors files written tensor by tensor, with the same bytes for the same tensors.

The safetensors library writes metadata in random order and wants all tensors in memory; here the header comes first,
sorted, then one tensor after the other, and the hashes are put into the places kept for them. Making, writing and
hashing go on side by side: hashing takes 0.6 to 0.9 s per GB and core, and the disk can work meanwhile. A file without
hashes in its header has one made of itself on the way; one with them is not complete until all is hashed.
"""

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from lora_diffusion.files.hashes import (
    HASH_KEY,
    NAMES,
    WRITTEN,
    RunningHash,
    content_hash,
    each_once,
    header_of,
    running_hashes,
)

__all__ = ["Content", "Planned", "Written", "plan_of", "write_safe"]

Content = Tensor | Iterable[Tensor]
"""What a tensor of a file holds: as a whole, or as flat pieces in order."""

# The order of the safetensors library (widest first, then name), so that hashes by re-serialising agree.
_ORDER = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")
# Bytes that may wait for the slowest of writing and hashing. They stay in the cache: measured with 2.1 GB, the system
# took 2.2 s for writing pieces of 4 MiB with 64 MiB under way, and 0.6 s for pieces of 1 MiB with 16.
_AHEAD = 16 << 20
# Bytes after which the disk is set to work, so that it has taken most when the last byte is written: measured with
# 2.1 GB and a disk of 500 MB/s, a merge took 4.2 s with 64 MiB and 5.2 s with 1 GiB.
_FLUSHED = 64 << 20
_HASHERS = 2  # a disk that takes more than two cores can hash, 2.4 GB/s, is rarer than a third free core


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A tensor that is going to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def plan_of(tensors: Mapping[str, Tensor]) -> list[Planned]:
    """Return what has to be known of tensors before the first byte is written."""
    return [Planned(name=name, dtype=each.dtype, shape=tuple(each.shape)) for name, each in tensors.items()]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is known of a file that was written.

    `hashes` are those in its metadata, `digests` the SHA-256 of the bytes of each tensor by name, but for those that
    were `passing`. `header` and `sha256` are those of a file without `hashes`, empty for any other.
    """

    hashes: Mapping[str, str]
    digests: Mapping[str, bytes]
    header: bytes = b""
    sha256: str = ""


def write_safe(
    path: Path,
    plan: Collection[Planned],
    content_of: Callable[[str], Content],
    metadata: Mapping[str, str],
    *,
    hashes: Collection[str] = WRITTEN,
    passing: Container[str] = (),
) -> Written:
    """Write a file whose header is known before its tensors, asking for one tensor at a time.

    Its hashes end up in the metadata. A checkpoint has none of them: to hash its gigabytes a second time takes as long
    as to copy it. No digest is made of tensors that are `passing`: they lie in another file, to be compared with.
    The file is complete but not flushed to the disk: `path` is a temporary one of `datasets_tools.storage`. Raises
    ValueError where `content_of` gives another dtype or shape than planned. What it gave must not change afterwards.
    """
    plan = sorted(plan, key=lambda each: (-_ORDER.index(NAMES[each.dtype]), each.name))
    running = running_hashes(hashes, plan, metadata)
    places = {key: "0" * len(each.text()) for key, each in running.items()}
    if HASH_KEY in hashes:
        places[HASH_KEY] = "0" * 64
    header = header_of(plan, dict(sorted({**metadata, **places}.items())))
    whole = RunningHash(hash=hashlib.sha256(header))
    with path.open("wb") as file:
        file.write(header)
        with _Line(file, each_once(running) if hashes else [whole]) as line:
            for each in plan:
                line.begin(digested=HASH_KEY in hashes or each.name not in passing)
                for data in _bytes(content_of(each.name), each):
                    line.put(data)
                line.end(each.name)
            digests = line.finish()
        result = {key: each_hash.text() for key, each_hash in running.items()}
        if HASH_KEY in hashes:
            result[HASH_KEY] = content_hash(plan, metadata, digests)
        _fill(file, header, places, result)
    if hashes:
        return Written(hashes=result, digests=digests)
    return Written(hashes={}, digests=digests, header=header, sha256=whole.text())


class _Line:
    """Writes and hashes what it is given, each on a thread of its own, and sets the disk to work early.

    Tensors are hashed one by one, side by side; hashes over the whole file are made in its order.
    """

    def __init__(self, file: BinaryIO, running: Collection[RunningHash]) -> None:
        self._file, self._running = file, running
        self._writer, self._chain, self._flusher = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("write", "chain", "flush")
        )
        self._hashers = {ThreadPoolExecutor(1, thread_name_prefix="hash"): 0 for _ in range(_HASHERS)}
        self._hasher = next(iter(self._hashers))
        self._digest: hashlib._Hash | None = None
        self._digests: dict[str, hashlib._Hash] = {}
        self._under_way: deque[tuple[int, list[Future[object]]]] = deque()
        self._waiting = self._unflushed = 0
        self._flushing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._writer, self._chain, self._flusher, *self._hashers):
            each.shutdown(cancel_futures=True)

    def begin(self, *, digested: bool) -> None:
        """Take the pieces of another tensor from now on; the hasher that was given the fewest bytes has them."""
        self._hasher = min(self._hashers, key=self._hashers.__getitem__)
        self._digest = hashlib.sha256() if digested else None

    def put(self, data: memoryview) -> None:
        """Take the next bytes; wait where too many are under way. Raises what writing raised."""
        tasks: list[Future[object]] = [self._writer.submit(self._file.write, data)]
        if self._digest is not None:
            tasks.append(self._hasher.submit(self._digest.update, data))
            self._hashers[self._hasher] += len(data)
        if self._running:
            tasks.append(self._chain.submit(self._run, data))
        self._under_way.append((len(data), tasks))
        self._waiting += len(data)
        while self._waiting > _AHEAD:
            self._settle()

    def end(self, name: str) -> None:
        """Say of which tensor the bytes were that came since `begin`."""
        if self._digest is not None:
            self._digests[name] = self._digest

    def finish(self) -> dict[str, bytes]:
        """Wait until everything is written and hashed; return the digest of each tensor."""
        while self._under_way:
            self._settle()
        if self._flushing is not None:
            self._flushing.result()
        return {name: each.digest() for name, each in self._digests.items()}

    def _settle(self) -> None:
        size, tasks = self._under_way.popleft()
        for each in tasks:
            each.result()
        self._waiting -= size
        self._unflushed += size
        if self._unflushed >= _FLUSHED and (self._flushing is None or self._flushing.done()):
            self._flushing = self._flusher.submit(os.fsync, self._file.fileno())
            self._unflushed = 0

    def _run(self, data: memoryview) -> None:
        for each in self._running:
            each.update(data)


def _bytes(content: Content, planned: Planned) -> Iterator[memoryview]:
    if isinstance(content, Tensor):
        if tuple(content.shape) != planned.shape:
            raise ValueError(f"{planned.name} came as {tuple(content.shape)}, planned was {planned}")
        content = (content,)
    left = planned.size
    for each in content:
        left -= each.nbytes
        if each.dtype != planned.dtype or left < 0:
            raise ValueError(f"{planned.name} came as {each.dtype} with {-left} bytes too many, planned was {planned}")
        yield each.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    if left:
        raise ValueError(f"{planned.name} came with {left} bytes too few, planned was {planned}")


def _fill(file: BinaryIO, header: bytes, places: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    for key, value in hashes.items():
        file.seek(header.index(f'"{key}":"{places[key]}"'.encode()) + len(key) + 4)
        file.write(value.encode())
