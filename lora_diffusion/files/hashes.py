"""The hashes that the metadata of a file says of its tensors: two of ours, three of other programs.

SHA-256 is a chain: over one stream of bytes it keeps one core busy, however many there are (1.2 to 1.7 GB/s each with
the SHA instructions of a processor of 2023). Ours is therefore made of one digest per tensor, which several cores make.
"""

import hashlib
import json
import math
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

__all__ = [
    "DTYPES",
    "HASHES",
    "HASH_KEY",
    "LEGACY_KEY",
    "NAMES",
    "OLD_HASH_KEY",
    "OURS",
    "PAYLOAD_KEY",
    "SPEC_KEY",
    "WRITTEN",
    "Named",
    "RunningHash",
    "as_stored",
    "content_hash",
    "each_once",
    "header_of",
    "running_hash",
    "running_hashes",
]

HASH_KEY = "lora_diffusion.sha256_v2"
"""Ours: SHA-256 over names, dtypes, shapes, the SHA-256 of each tensor's bytes, and what a dialect keeps in metadata.

The bytes that are hashed are JSON: [[[name, dtype, [side, ...], hex digest], ...] in the order of the names, {key: text
of the metadata that says what the tensors mean}], as `json.dumps(..., sort_keys=True)` writes it, dtypes as torch names
them. A change of this rule takes a new key.
"""
OLD_HASH_KEY = "lora_diffusion.sha256"
"""Ours until version 0.1: one chain over the same without digests, then all tensor bytes. It is read, not written."""
PAYLOAD_KEY = "sshs_model_hash"
"""That of sd-scripts: SHA-256 over all bytes after the header."""
SPEC_KEY = "modelspec.hash_sha256"
"""That of the Stability model specification: the same with 0x before it."""
LEGACY_KEY = "sshs_legacy_hash"
"""The older one of sd-scripts: 8 digits over 64 KiB from the second MiB on of the file with its ss_* metadata alone."""
OURS = (HASH_KEY, OLD_HASH_KEY)
WRITTEN = (HASH_KEY, PAYLOAD_KEY, SPEC_KEY, LEGACY_KEY)
HASHES = (*OURS, PAYLOAD_KEY, SPEC_KEY, LEGACY_KEY)
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
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Named(Protocol):
    """A tensor as a header describes it, in a file or about to be written."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def content_hash(entries: Collection[Named], metadata: Mapping[str, str], digests: Mapping[str, bytes]) -> str:
    """Return what stands under HASH_KEY; `digests` holds the SHA-256 of the bytes of each tensor by its name."""
    table = [[each.name, str(each.dtype), list(each.shape), digests[each.name].hex()] for each in _by_name(entries)]
    return hashlib.sha256(json.dumps([table, _kept(metadata)], sort_keys=True).encode()).hexdigest()


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
    """Return the hash of a key other than HASH_KEY, to which the tensor bytes, in file order, are then added.

    None for the legacy one where the header reaches into what it covers: the library writes that in random order.
    """
    if key == OLD_HASH_KEY:
        return RunningHash(hash=_start_of_old(entries, metadata))
    if key == LEGACY_KEY:
        skip = _LEGACY_START - len(
            header_of(entries, {key: metadata[key] for key in metadata if key.startswith("ss_")})
        )
        whole = RunningHash(hash=hashlib.sha256(), digits=_LEGACY_DIGITS, skip=skip, length=_LEGACY_LENGTH)
        return None if skip < 0 else whole
    return RunningHash(hash=hashlib.sha256(), before="0x" if key == SPEC_KEY else "")


def running_hashes(
    keys: Iterable[str], entries: Collection[Named], metadata: Mapping[str, str]
) -> dict[str, RunningHash]:
    """Return the hashes of keys other than HASH_KEY that can be known; two that cover the same bytes share one."""
    found = {key: running_hash(key, entries, metadata) for key in keys if key != HASH_KEY}
    result = {key: each for key, each in found.items() if each is not None}
    if PAYLOAD_KEY in result and SPEC_KEY in result:
        result[SPEC_KEY].hash = result[PAYLOAD_KEY].hash
    return result


def each_once(running: Mapping[str, RunningHash]) -> list[RunningHash]:
    """Return the hashes to which bytes are to be added: of those that share their sum, one."""
    return list({id(each.hash): each for each in running.values()}.values())


def as_stored(key: str, value: str) -> str:
    """The 0x of the model specification is left out by some programs, and added to other hashes by others."""
    digits = value.strip().lower().removeprefix("0x")
    return f"0x{digits}" if key == SPEC_KEY else digits


def header_of(entries: Iterable[Named], metadata: Mapping[str, str]) -> bytes:
    """Return what stands before the tensors, its own length first, as the safetensors library lays it out."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for each in entries:
        end = start + math.prod(each.shape) * each.dtype.itemsize
        header[each.name] = {"dtype": NAMES[each.dtype], "shape": list(each.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<Q", len(text) + -len(text) % 8) + text + b" " * (-len(text) % 8)


def _start_of_old(entries: Collection[Named], metadata: Mapping[str, str]) -> "hashlib._Hash":
    table = [[each.name, str(each.dtype), list(each.shape)] for each in _by_name(entries)]
    return hashlib.sha256(json.dumps([table, _kept(metadata)], sort_keys=True).encode())


def _by_name(entries: Collection[Named]) -> list[Named]:
    return sorted(entries, key=lambda each: each.name)


def _kept(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: metadata[key] for key in _HASHED_METADATA if key in metadata}
