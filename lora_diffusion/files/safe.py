"""Safetensors files that may come from anyone, read within limits and without a mapping of the whole file.

Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, __metadata__}, the
tensor bytes without gaps. Anything else is refused by what it contains, never by its name; no pickle is ever opened.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, UnknownDialect, UsageError
from lora_diffusion.files.hashes import (
    DTYPES,
    HASH_KEY,
    HASHES,
    OLD_HASH_KEY,
    OURS,
    RunningHash,
    as_stored,
    content_hash,
    each_once,
    running_hashes,
)

__all__ = ["Entry", "Excerpt", "SafeFile", "open_safe"]

MAX_HEADER = 16 << 20  # bytes; an SDXL checkpoint needs 0.4 MB, 50,000 tensors about 8 MB
MAX_VALUES = 1_000_000  # that a header may hold: parsed, each takes up to 150 bytes; 50,000 tensors are 400,000
MAX_TENSORS = 50_000
MAX_NAME = 512
MAX_SIDE = 2**31
_PIECE = 1 << 20  # bytes; large enough that calls cost nothing, small enough to lie in the cache while it is hashed
_SHARED = 2 << 20  # bytes below which a second thread costs more than it saves
_CORES = min(4, os.cpu_count() or 1)  # more read faster than most disks

_MARKS = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it (pickle)"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a rar archive"),
    (b"\x80", "a pickle"),
    (b"version https://git-lfs", "a Git LFS pointer: the real file was not downloaded"),
    (b"<", "a web page"),
    (b"GGUF", "a GGUF file"),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a file: `start` and `size` in bytes, from the beginning of the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class SafeFile:
    """The header of a file that keeps the format and the limits. Tensors are read one at a time."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    payload: int
    """Where the tensor bytes start."""

    def tensor(self, name: str) -> Tensor:
        """Read one tensor into memory of its own."""
        entry = self.entries[name]
        data = torch.empty(entry.size, dtype=torch.uint8)
        with self.path.open("rb") as file:
            file.seek(entry.start)
            if file.readinto(data.numpy().data) != entry.size:
                raise _damaged(self.path, f"ends inside tensor {name!r}")
        return data.view(entry.dtype).reshape(entry.shape)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Read one tensor as flat pieces of at most 1 MiB, in order, each in the memory of the one before."""
        entry = self.entries[name]
        memory = torch.empty(min(_PIECE, entry.size), dtype=torch.uint8)
        with self.path.open("rb") as file:
            file.seek(entry.start)
            for start in range(0, entry.size, _PIECE):
                data = memory[: entry.size - start]
                if file.readinto(data.numpy().data) != len(data):
                    raise _damaged(self.path, f"ends inside tensor {name!r}")
                yield data.view(entry.dtype)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.entries:
            yield name, self.tensor(name)

    def digests(self, names: Collection[str]) -> dict[str, bytes]:
        """Return the SHA-256 of the bytes of tensors, by name; several cores share large ones."""
        entries = [entry for name, entry in self.entries.items() if name in names]
        shares = _shares_of(entries, _CORES if sum(each.size for each in entries) > _SHARED else 1)
        if len(shares) < 2:
            return self._digests(entries)
        with ThreadPoolExecutor(len(shares), thread_name_prefix="sha256") as beside:
            return {name: digest for found in beside.map(self._digests, shares) for name, digest in found.items()}

    def _digests(self, entries: Sequence[Entry]) -> dict[str, bytes]:
        """Read tensors that lie behind each other into one piece of memory, and hash them."""
        result, memory = {}, memoryview(bytearray(min(_PIECE, max((each.size for each in entries), default=0))))
        with self.path.open("rb") as file:
            for entry in entries:
                file.seek(entry.start)
                digest = hashlib.sha256()
                for start in range(0, entry.size, _PIECE):
                    piece = memory[: min(_PIECE, entry.size - start)]
                    if file.readinto(piece) != len(piece):
                        raise _damaged(self.path, f"ends inside tensor {entry.name!r}")
                    digest.update(piece)
                result[entry.name] = digest.digest()
        return result

    def hashes_of(self, keys: Collection[str]) -> dict[str, str]:
        """Compute hashes of HASHES from the bytes on disk; one that cannot be known is left out."""
        result = {}
        if HASH_KEY in keys:
            result[HASH_KEY] = content_hash(self.entries.values(), self.metadata, self.digests(self.entries))
        running = running_hashes(keys, self.entries.values(), self.metadata)
        if running:
            self._run(each_once(running))
        return result | {key: each.text() for key, each in running.items()}

    def _run(self, hashes: Collection[RunningHash]) -> None:
        memory = memoryview(bytearray(_PIECE))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.payload)
            while count := file.readinto(memory):
                for each in hashes:
                    each.update(memory[:count])

    @property
    def hash_keys(self) -> tuple[str, ...]:
        """The keys of the hashes that are said of these tensors.

        Beside our older hash the newer one counts for nothing: version 0.1 hands it on from the file that it read.
        """
        stale = {HASH_KEY} if OLD_HASH_KEY in self.metadata else set()
        return tuple(key for key in HASHES if key in self.metadata and key not in stale)

    def wrong_hashes(self) -> list[str]:
        """Return the keys of stored hashes that are not those of the bytes on disk."""
        stored = {key: as_stored(key, self.metadata[key]) for key in self.hash_keys}
        found = self.hashes_of(stored)
        return [key for key, value in stored.items() if key in found and found[key] != value]

    def verify(self) -> None:
        """Raise CorruptFile where a hash of ours is stored and differs; a file without one cannot be verified."""
        stored = {key: self.metadata[key] for key in OURS if key in self.hash_keys}
        if self.hashes_of(stored) != stored:
            raise CorruptFile(
                f"{self.path.name}: the tensors are not those that were written (SHA-256 differs)",
                hint="the file is damaged, or another program changed it; get it again from where it came",
            )


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The bytes of one tensor as they lie in a file."""

    file: SafeFile
    entry: Entry

    def read_into(self, room: Callable[[], memoryview], took: Callable[[int], None]) -> None:
        """Read it into the memory that `room` gives, telling `took` how many bytes of that are now used.

        Raises CorruptFile where the file ends before the tensor does.
        """
        left = self.entry.size
        with self.file.path.open("rb", buffering=0) as file:
            file.seek(self.entry.start)
            while left:
                count = file.readinto(room()[:left])
                if not count:
                    raise _damaged(self.file.path, f"ends inside tensor {self.entry.name!r}")
                took(count)
                left -= count


def _shares_of(entries: Sequence[Entry], count: int) -> list[list[Entry]]:
    """Divide entries into at most `count` runs of about the same bytes."""
    whole, done, result = sum(each.size for each in entries), 0, [list[Entry]() for _ in range(count)]
    for each in entries:
        result[min(count * done // max(whole, 1), count - 1)].append(each)
        done += each.size
    return [run for run in result if run]


def open_safe(path: Path) -> SafeFile:
    """Read the header of a safetensors file.

    Raises UsageError where there is no file, UnknownDialect for content of another kind, CorruptFile for a header or
    length that breaks the format or the limits.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 9 else 0
        if head[8:] != b"{" or not 2 <= length <= size - 8:
            raise _not_safetensors(path, head + file.read(32), length, size)
        if length > MAX_HEADER:
            raise _damaged(path, f"has a header of {length} bytes; at most {MAX_HEADER} are read")
        header = _parse(path, b"{" + file.read(length - 1))
    metadata = _metadata(path, header.pop("__metadata__", {}))
    entries = _entries(path, header, 8 + length, size)
    return SafeFile(path=path, entries=entries, metadata=metadata, payload=8 + length)


def _not_safetensors(path: Path, head: bytes, length: int, size: int) -> UnknownDialect | CorruptFile:
    if not head:
        return _damaged(path, "is empty")
    if head[8:9] == b"{" and length > size - 8:
        return _damaged(path, f"is truncated: {size} bytes, its header alone says {length}")
    kind = next((text for mark, text in _MARKS if head.startswith(mark)), "no safetensors file")
    return UnknownDialect(
        f"{path.name} is {kind}",
        hint="only .safetensors files are read: others can run code; ask the author for a safetensors version",
    )


def _damaged(path: Path, what: str) -> CorruptFile:
    return CorruptFile(f"{path.name} {what}", hint="the file is damaged; get it again from where it came")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    if sum(text.count(each) for each in (b",", b"[", b"{")) > MAX_VALUES:
        raise _damaged(path, f"has a header of more than {MAX_VALUES} values")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"has a header that is no JSON: {error}") from None
    if len(header) > MAX_TENSORS + 1:
        raise _damaged(path, f"holds {len(header)} tensors; at most {MAX_TENSORS} are read")
    return dict(header)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _metadata(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _damaged(path, "has metadata other than texts")
    return dict(sorted(value.items()))


def _entries(path: Path, header: Mapping[str, Any], payload: int, size: int) -> dict[str, Entry]:
    entries = sorted((_entry(path, name, info, payload) for name, info in header.items()), key=_place)
    end = payload
    for entry in entries:
        if entry.start != end:
            raise _damaged(path, f"has a gap or an overlap before tensor {entry.name!r}")
        end += entry.size
    if end != size:
        what = "is truncated" if end > size else "has bytes after the last tensor"
        raise _damaged(path, f"{what}: {size} bytes, the header says {end}")
    return {entry.name: entry for entry in entries}


def _place(entry: Entry) -> tuple[int, int, str]:
    return entry.start, entry.size, entry.name


def _entry(path: Path, name: str, info: Any, payload: int) -> Entry:
    shown = repr(name[:80])
    try:
        dtype, shape, (start, end) = info["dtype"], tuple(info["shape"]), info["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _damaged(path, f"describes tensor {shown} in a way the format does not have") from None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _damaged(path, f"stores tensor {shown} as {str(dtype)[:20]!r}; known are {', '.join(DTYPES)}")
    if len(name) > MAX_NAME or len(shape) > 8 or not all(_is_size(side) and side < MAX_SIDE for side in shape):
        raise _damaged(path, f"has a tensor {shown} beyond the limits of name or shape")
    bytes_ = math.prod(shape) * DTYPES[dtype].itemsize
    if not (_is_size(start) and _is_size(end) and end - start == bytes_):
        raise _damaged(path, f"gives tensor {shown} another length than its shape")
    return Entry(name=name, dtype=DTYPES[dtype], shape=shape, start=payload + start, size=bytes_)


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0
