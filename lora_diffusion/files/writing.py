"""Safetensors files written tensor by tensor, with the same bytes for the same tensors.

The safetensors library writes metadata in random order and wants all tensors in memory; here the header comes first,
sorted, then one tensor after the other, and the hashes are put into the places kept for them. Making, writing and
hashing go on side by side: hashing takes 0.6 s per GB, and the disk can work meanwhile.
"""

import json
import math
import os
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from lora_diffusion.files.safe import DTYPES, HASHES, RunningHash, running_hash

__all__ = ["Content", "Planned", "plan_of", "write_safe"]

Content = Tensor | Iterable[Tensor]
"""What a tensor of a file holds: as a whole, or as flat pieces in order."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# The order of the safetensors library (widest first, then name), so that hashes by re-serialising agree.
_ORDER = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")
_AHEAD = 64 << 20  # bytes that may wait for the slower of writing and hashing
_FLUSHED = 256 << 20  # bytes after which the disk is set to work; smaller files are flushed at their end alone


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


def write_safe(
    path: Path,
    plan: Collection[Planned],
    content_of: Callable[[str], Content],
    metadata: Mapping[str, str],
    *,
    hashes: Collection[str] = HASHES,
) -> dict[str, str]:
    """Write a file whose header is known before its tensors, asking for one tensor at a time; return its hashes.

    They end up in the metadata; a checkpoint has only ours, nobody looks for the others there.
    The file is complete but not flushed to the disk: `path` is a temporary one of `datasets_tools.storage`. Raises
    ValueError where `content_of` gives another dtype or shape than planned. What it gave must not change afterwards.
    """
    plan = sorted(plan, key=lambda each: (-_ORDER.index(_NAMES[each.dtype]), each.name))
    running = {key: found for key in hashes if (found := running_hash(key, plan, metadata)) is not None}
    places = {key: "0" * len(each.text()) for key, each in running.items()}
    header = _header(plan, {**metadata, **places})
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        with _Line(file, running.values()) as line:
            for each in plan:
                for data in _bytes(content_of(each.name), each):
                    line.put(data)
            line.finish()
        result = {key: each_hash.text() for key, each_hash in running.items()}
        _fill(file, header, places, result)
    return result


class _Line:
    """Writes and hashes what it is given in order, each on a thread of its own, and sets the disk to work early."""

    def __init__(self, file: BinaryIO, running: Iterable[RunningHash]) -> None:
        self._file, self._running = file, list(running)
        self._writer, self._hasher, self._flusher = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("write", "hash", "flush")
        )
        self._under_way: deque[tuple[int, Future[int], Future[None]]] = deque()
        self._waiting = self._unflushed = 0
        self._flushing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._writer, self._hasher, self._flusher):
            each.shutdown(cancel_futures=True)

    def put(self, data: memoryview) -> None:
        """Take the next bytes; wait where too many are under way. Raises what writing raised."""
        writing, hashing = self._writer.submit(self._file.write, data), self._hasher.submit(self._hash, data)
        self._under_way.append((len(data), writing, hashing))
        self._waiting += len(data)
        while self._waiting > _AHEAD:
            self._settle()

    def finish(self) -> None:
        """Wait until everything is written and hashed."""
        while self._under_way:
            self._settle()
        if self._flushing is not None:
            self._flushing.result()

    def _settle(self) -> None:
        size, writing, hashing = self._under_way.popleft()
        writing.result()
        hashing.result()
        self._waiting -= size
        self._unflushed += size
        if self._unflushed >= _FLUSHED and (self._flushing is None or self._flushing.done()):
            self._flushing = self._flusher.submit(os.fsync, self._file.fileno())
            self._unflushed = 0

    def _hash(self, data: memoryview) -> None:
        for each in self._running:
            each.update(data)


def _header(plan: list[Planned], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for each in plan:
        offsets = [start, start + each.size]
        header[each.name] = {"dtype": _NAMES[each.dtype], "shape": list(each.shape), "data_offsets": offsets}
        start += each.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


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
        file.seek(8 + header.index(f'"{key}":"{places[key]}"'.encode()) + len(key) + 4)
        file.write(value.encode())
