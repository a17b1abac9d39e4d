"""Safetensors files written tensor by tensor, with the same bytes for the same tensors.

The safetensors library writes metadata in random order and wants all tensors in memory; here the header comes first,
sorted, then one tensor after the other, and the hashes are put into the places kept for them. Making, writing, reading
back and hashing go on side by side: hashing takes 0.6 to 0.9 s per GB and core. A file without hashes in its header has
one made of itself on the way; one with them is not complete until all is hashed.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
from lora_diffusion.files.safe import Excerpt
from lora_diffusion.files.stream import Stream

__all__ = ["Content", "Planned", "Written", "plan_of", "write_safe"]

Content = Tensor | Excerpt | Iterable[Tensor]
"""What a tensor of a file holds: as a whole, as it lies in another file, or as flat pieces in order."""

# The order of the safetensors library (widest first, then name), so that hashes by re-serialising agree.
_ORDER = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")
_AHEAD = 16 << 20  # bytes that may wait to be hashed
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
    """What is known of a file: the hashes in its metadata, or its own SHA-256 where it has none of them."""

    hashes: Mapping[str, str]
    sha256: str = ""


def write_safe(
    path: Path,
    plan: Collection[Planned],
    content_of: Callable[[str], Content],
    metadata: Mapping[str, str],
    *,
    hashes: Collection[str] = WRITTEN,
) -> Written:
    """Write a file whose header is known before its tensors, asking for one tensor at a time, and read it back.

    Its hashes end up in the metadata. A checkpoint has none of them: to hash its gigabytes a second time takes as long
    as to copy it. The file is complete but not flushed to the disk: `path` is a temporary one of
    `datasets_tools.storage`. Raises ValueError where `content_of` gives another dtype or shape than planned, and
    CorruptFile where other bytes are read back than were given. With hashes, what it gave must not change afterwards;
    without, not until it is asked for more.
    """
    plan = sorted(plan, key=lambda each: (-_ORDER.index(NAMES[each.dtype]), each.name))
    running = running_hashes(hashes, plan, metadata)
    places = {key: "0" * len(each.text()) for key, each in running.items()}
    if HASH_KEY in hashes:
        places[HASH_KEY] = "0" * 64
    header = header_of(plan, dict(sorted({**metadata, **places}.items())))
    whole, size = hashlib.sha256(), len(header) + sum(each.size for each in plan)
    if not hashes:
        with Stream(path, size, whole.update) as stream:
            stream.put(memoryview(header))
            for each in plan:
                _put(stream, content_of(each.name), each)
            stream.finish()
        return Written(hashes={}, sha256=whole.hexdigest())
    with Stream(path, size) as stream, _Hashing(each_once(running)) as hashing:
        stream.put(memoryview(header))
        for each in plan:
            hashing.begin(each.name)
            content = content_of(each.name)
            assert not isinstance(content, Excerpt)  # of checkpoints, which have no hashes
            for data in _bytes(content, each):
                hashing.put(data)
                stream.put(data)
        digests = hashing.finish()
        stream.finish()
    result = {key: each_hash.text() for key, each_hash in running.items()}
    if HASH_KEY in hashes:
        result[HASH_KEY] = content_hash(plan, metadata, digests)
    with path.open("rb+") as file:
        _fill(file, header, places, result)
    return Written(hashes=result)


class _Hashing:
    """Hashes what it is given on threads of its own.

    Tensors are hashed one by one, side by side; hashes over the whole file are made in its order.
    """

    def __init__(self, running: Collection[RunningHash]) -> None:
        self._running = running
        self._chain = ThreadPoolExecutor(1, thread_name_prefix="chain")
        self._hashers = {ThreadPoolExecutor(1, thread_name_prefix="hash"): 0 for _ in range(_HASHERS)}
        self._hasher, self._digest = next(iter(self._hashers)), hashlib.sha256()
        self._digests: dict[str, hashlib._Hash] = {}
        self._under_way: deque[tuple[int, list[Future[object]]]] = deque()
        self._waiting = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._chain, *self._hashers):
            each.shutdown(cancel_futures=True)

    def begin(self, name: str) -> None:
        """Take the bytes of another tensor from now on; the hasher that was given the fewest has them."""
        self._hasher = min(self._hashers, key=self._hashers.__getitem__)
        self._digest = self._digests[name] = hashlib.sha256()

    def put(self, data: memoryview) -> None:
        """Take the next bytes; wait where too many are under way."""
        self._hashers[self._hasher] += len(data)
        tasks: list[Future[object]] = [self._hasher.submit(self._digest.update, data)]
        if self._running:
            tasks.append(self._chain.submit(self._run, data))
        self._under_way.append((len(data), tasks))
        self._waiting += len(data)
        while self._waiting > _AHEAD:
            self._settle()

    def finish(self) -> dict[str, bytes]:
        """Wait until everything is hashed; return the digest of each tensor."""
        while self._under_way:
            self._settle()
        return {name: each.digest() for name, each in self._digests.items()}

    def _settle(self) -> None:
        size, tasks = self._under_way.popleft()
        for each in tasks:
            each.result()
        self._waiting -= size

    def _run(self, data: memoryview) -> None:
        for each in self._running:
            each.update(data)


def _put(stream: Stream, content: Content, planned: Planned) -> None:
    if not isinstance(content, Excerpt):
        for data in _bytes(content, planned):
            stream.put(data)
    elif (content.entry.dtype, content.entry.size) != (planned.dtype, planned.size):
        raise ValueError(f"{planned.name} came as {content.entry}, planned was {planned}")
    else:
        content.read_into(stream.room, stream.took)


def _bytes(content: Tensor | Iterable[Tensor], planned: Planned) -> Iterator[memoryview]:
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
