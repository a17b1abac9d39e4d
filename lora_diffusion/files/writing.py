"""Safetensors files written tensor by tensor, with the same bytes for the same tensors.

The safetensors library writes metadata in random order and wants all tensors in memory; here the header comes first,
sorted, then one tensor after the other, and the hashes are put into the places kept for them.
"""

import json
import math
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lora_diffusion.files.safe import DTYPES, HASHES, RunningHash, running_hash

__all__ = ["Planned", "plan_of", "write_safe"]

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# The order of the safetensors library (widest first, then name), so that hashes by re-serialising agree.
_ORDER = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "F16", "BF16", "I32", "F32", "F64", "I64")


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
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    *,
    hashes: Collection[str] = HASHES,
) -> dict[str, str]:
    """Write a file whose header is known before its tensors, asking for one tensor at a time; return its hashes.

    They end up in the metadata; a checkpoint has only ours, nobody looks for the others there.
    The file is complete but not flushed to the disk: `path` is a temporary one of `datasets_tools.storage`. Raises
    ValueError where `tensor_of` gives another dtype or shape than planned.
    """
    plan = sorted(plan, key=lambda each: (-_ORDER.index(_NAMES[each.dtype]), each.name))
    running = {key: found for key in hashes if (found := running_hash(key, plan, metadata)) is not None}
    places = {key: "0" * len(each.text()) for key, each in running.items()}
    header = _header(plan, {**metadata, **places})
    with path.open("wb") as file, ThreadPoolExecutor(1, thread_name_prefix="hash") as beside:
        file.write(struct.pack("<Q", len(header)) + header)
        for each in plan:
            data = _bytes(tensor_of(each.name), each)
            hashing = beside.submit(_update, running.values(), data)  # takes as long as writing, on another core
            file.write(data)
            hashing.result()
        result = {key: each_hash.text() for key, each_hash in running.items()}
        _fill(file, header, places, result)
    return result


def _update(running: Iterable[RunningHash], data: memoryview) -> None:
    for each in running:
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


def _bytes(tensor: Tensor, planned: Planned) -> memoryview:
    if tensor.dtype != planned.dtype or tuple(tensor.shape) != planned.shape:
        raise ValueError(f"{planned.name} came as {tensor.dtype} {tuple(tensor.shape)}, planned was {planned}")
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _fill(file: BinaryIO, header: bytes, places: Mapping[str, str], hashes: Mapping[str, str]) -> None:
    for key, value in hashes.items():
        file.seek(8 + header.index(f'"{key}":"{places[key]}"'.encode()) + len(key) + 4)
        file.write(value.encode())
