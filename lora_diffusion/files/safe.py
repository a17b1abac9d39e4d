"""Safetensors files that may come from anyone, read within limits and without a mapping of the whole file.

Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, __metadata__}, the
tensor bytes without gaps. Anything else is refused by what it contains, never by its name; no pickle is ever opened.
"""

import hashlib
import json
import math
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, UnknownDialect, UsageError

__all__ = ["DTYPES", "HASHES", "HASH_KEY", "PAYLOAD_KEY", "Entry", "SafeFile", "open_safe", "running_hash"]

MAX_HEADER = 16 << 20  # bytes; an SDXL checkpoint needs 0.4 MB, 50,000 tensors about 8 MB
MAX_VALUES = 1_000_000  # that a header may hold: parsed, each takes up to 150 bytes; 50,000 tensors are 400,000
MAX_TENSORS = 50_000
MAX_NAME = 512
MAX_SIDE = 2**31
_CHUNK = 1 << 20
_PIECE = 4 << 20  # bytes; large enough that calls cost nothing, small enough to lie in the cache while it is hashed

HASH_KEY = "lora_diffusion.sha256"
"""Ours: SHA-256 over names, dtypes, shapes, what the dialect keeps in metadata, and all tensor bytes."""
PAYLOAD_KEY = "sshs_model_hash"
"""That of sd-scripts: SHA-256 over all bytes after the header."""
SPEC_KEY = "modelspec.hash_sha256"
"""That of the Stability model specification: the same with 0x before it."""
LEGACY_KEY = "sshs_legacy_hash"
"""The older one of sd-scripts: 8 digits over 64 KiB from the second MiB on of the file with its ss_* metadata alone."""
HASHES = (HASH_KEY, PAYLOAD_KEY, SPEC_KEY, LEGACY_KEY)
_LEGACY_START, _LEGACY_LENGTH, _LEGACY_DIGITS = 0x100000, 0x10000, 8
_HASHED_METADATA = ("adapter_config", "lora_adapter_metadata", "lora_diffusion.family")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
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


class Named(Protocol):
    """A tensor as a header describes it, in a file or about to be written."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


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
        """Read one tensor as flat pieces of at most 4 MiB, in order, each in memory of its own."""
        entry = self.entries[name]
        with self.path.open("rb") as file:
            file.seek(entry.start)
            for start in range(0, entry.size, _PIECE):
                data = torch.empty(min(_PIECE, entry.size - start), dtype=torch.uint8)
                if file.readinto(data.numpy().data) != len(data):
                    raise _damaged(self.path, f"ends inside tensor {name!r}")
                yield data.view(entry.dtype)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.entries:
            yield name, self.tensor(name)

    def hash_of(self, key: str) -> str:
        """Compute the hash that one of HASHES stands for, from the bytes on disk; "" where it cannot be known."""
        result = running_hash(key, self.entries.values(), self.metadata)
        if result is None:
            return ""
        with self.path.open("rb") as file:
            file.seek(self.payload)
            while chunk := file.read(_CHUNK):
                result.update(chunk)
        return result.text()

    def wrong_hashes(self) -> list[str]:
        """Return the keys of stored hashes that are not those of the bytes on disk."""
        stored = {key: _as_stored(key, self.metadata[key]) for key in HASHES if key in self.metadata}
        return [key for key, value in stored.items() if self.hash_of(key) not in ("", value)]

    def verify(self) -> None:
        """Raise CorruptFile where our own hash is stored and differs; a file without one cannot be verified."""
        if HASH_KEY in self.metadata and self.hash_of(HASH_KEY) != self.metadata[HASH_KEY]:
            raise CorruptFile(
                f"{self.path.name}: the tensors are not those that were written (SHA-256 differs)",
                hint="the file is damaged, or another program changed it; get it again from where it came",
            )


def _as_stored(key: str, value: str) -> str:
    """The 0x of the model specification is left out by some programs, and added to other hashes by others."""
    digits = value.strip().lower().removeprefix("0x")
    return f"0x{digits}" if key == SPEC_KEY else digits


@dataclass(kw_only=True)
class RunningHash:
    """A hash over the tensor bytes in file order, from `skip` bytes on and over `length` at most."""

    hash: "hashlib._Hash"
    before: str = ""
    digits: int = 64
    skip: int = 0
    length: int | None = None

    def update(self, data: bytes | memoryview) -> None:
        skipped = min(self.skip, len(data))
        self.skip -= skipped
        taken = data[skipped:]
        if self.length is not None:
            taken = taken[: self.length]
            self.length -= len(taken)
        self.hash.update(taken)

    def text(self) -> str:
        return self.before + self.hash.hexdigest()[: self.digits]


def running_hash(key: str, entries: Collection[Named], metadata: Mapping[str, str]) -> RunningHash | None:
    """Return the hash of that key, to which the tensor bytes, in file order, are then added.

    None for the legacy one where the header reaches into what it covers: the library writes that in random order.
    """
    if key == HASH_KEY:
        return RunningHash(hash=_start_of_ours(entries, metadata))
    if key == LEGACY_KEY:
        skip = _LEGACY_START - _library_header(entries, metadata)
        whole = RunningHash(hash=hashlib.sha256(), digits=_LEGACY_DIGITS, skip=skip, length=_LEGACY_LENGTH)
        return None if skip < 0 else whole
    return RunningHash(hash=hashlib.sha256(), before="0x" if key == SPEC_KEY else "")


def _start_of_ours(entries: Collection[Named], metadata: Mapping[str, str]) -> "hashlib._Hash":
    table = [[each.name, str(each.dtype), list(each.shape)] for each in sorted(entries, key=lambda entry: entry.name)]
    kept = {key: metadata[key] for key in _HASHED_METADATA if key in metadata}
    return hashlib.sha256(json.dumps([table, kept], sort_keys=True).encode())


def _library_header(entries: Collection[Named], metadata: Mapping[str, str]) -> int:
    """Return how many bytes stand before the tensors where the safetensors library writes them with ss_* metadata."""
    header: dict[str, object] = {"__metadata__": {key: metadata[key] for key in metadata if key.startswith("ss_")}}
    start = 0
    for each in entries:
        size = math.prod(each.shape) * each.dtype.itemsize
        header[each.name] = {
            "dtype": _NAMES[each.dtype],
            "shape": list(each.shape),
            "data_offsets": [start, start + size],
        }
        start += size
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + length + -length % 8


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
