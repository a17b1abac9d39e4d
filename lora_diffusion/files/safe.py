"""Safetensors files that may come from anyone, read within limits and without a mapping of the whole file.

Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, __metadata__}, the
tensor bytes without gaps. Anything else is refused by what it contains, never by its name; no pickle is ever opened.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, UnknownDialect, UsageError

__all__ = ["DTYPES", "HASH_KEY", "PAYLOAD_KEY", "Entry", "SafeFile", "open_safe", "start_of_hash"]

MAX_HEADER = 16 << 20  # bytes; an SDXL checkpoint needs 0.4 MB, 50,000 tensors about 8 MB
MAX_TENSORS = 50_000
MAX_NAME = 512
MAX_SIDE = 2**31
_CHUNK = 1 << 20

HASH_KEY = "lora_diffusion.sha256"
"""Ours: SHA-256 over names, dtypes, shapes, what the dialect keeps in metadata, and all tensor bytes."""
PAYLOAD_KEY = "sshs_model_hash"
"""That of sd-scripts: SHA-256 over all bytes after the header."""
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
_MARKS = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes it (pickle)"),
    (b"7z\xbc\xaf", "a 7z archive"),
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

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in self.entries:
            yield name, self.tensor(name)

    def hash_of(self, key: str) -> str:
        """Compute the hash that HASH_KEY or PAYLOAD_KEY stands for, from the bytes on disk."""
        result = hashlib.sha256() if key == PAYLOAD_KEY else start_of_hash(self.entries.values(), self.metadata)
        with self.path.open("rb") as file:
            file.seek(self.payload)
            while chunk := file.read(_CHUNK):
                result.update(chunk)
        return result.hexdigest()

    def verify(self) -> None:
        """Raise CorruptFile where our own hash is stored and differs; a file without one cannot be verified."""
        if HASH_KEY in self.metadata and self.hash_of(HASH_KEY) != self.metadata[HASH_KEY]:
            raise CorruptFile(
                f"{self.path.name}: the tensors are not those that were written (SHA-256 differs)",
                hint="the file is damaged, or another program changed it; get it again from where it came",
            )


def start_of_hash(entries: Any, metadata: Mapping[str, str]) -> "hashlib._Hash":
    """Return the hash that the tensor bytes, in file order, are then added to."""
    table = [[each.name, str(each.dtype), list(each.shape)] for each in sorted(entries, key=lambda entry: entry.name)]
    kept = {key: metadata[key] for key in _HASHED_METADATA if key in metadata}
    return hashlib.sha256(json.dumps([table, kept], sort_keys=True).encode())


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
