"""What was written, read again before it takes its place: the same bytes, and the numbers that were meant."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint

__all__ = ["digest", "flushed_beside", "require_numbers", "verified_beside"]

_READERS = min(2, os.cpu_count() or 1)  # a tensor each in memory


def digest(tensor: Tensor) -> bytes:
    """Return the SHA-256 of the numbers of a tensor as they are stored."""
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()


@contextmanager
def flushed_beside(path: Path) -> Iterator[None]:
    """Have the disk take what was written while it is read back. Raises the OSError of a disk that is full."""
    with path.open("rb+") as file, ThreadPoolExecutor(1, thread_name_prefix="flush") as beside:
        flushing = beside.submit(os.fsync, file.fileno())
        yield
        flushing.result()


@contextmanager
def verified_beside(checkpoint: Checkpoint) -> Iterator[None]:
    """Verify a base while it is read for something else: the hash of ours that it may say, and that it stays as it is.

    Raises CorruptFile, at the end of the block and whatever went wrong in it, where a file is damaged or was changed.
    """
    files = {each.file.path for each in checkpoint.tensors.values()}
    before = {path: _state(path) for path in files}
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as beside:
        verifying = beside.submit(checkpoint.verify)
        try:
            yield
        finally:
            verifying.result()
            for path in files:
                if _state(path) != before[path]:
                    raise CorruptFile(
                        f"{path.name} changed while it was read",
                        hint="another program writes to it: begin again when that has ended",
                    )


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def require_numbers(path: Path, base: Checkpoint, digests: Mapping[str, bytes]) -> None:
    """Read a checkpoint as any program would, with every tensor of its base in its shape, and compare some numbers.

    `digests` holds the digest of each tensor that is to be compared, by canonical key. Raises VerificationFailed naming
    the first tensor that is missing or another one.
    """
    found = open_checkpoint(path)
    for key, stored in base.tensors.items():
        if key not in found.tensors and key.startswith(EXTRA):
            continue  # a folder has no place for these
        if key not in found.tensors or found.tensors[key].shape != stored.shape:
            raise VerificationFailed(f"{key} reads back as another tensor than was written")
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read-back") as beside:
        read = beside.map(lambda key: digest(found.tensor(key)), digests)
        for (key, wanted), got in zip(digests.items(), read, strict=True):
            if got != wanted:
                raise VerificationFailed(f"{key} reads back with other numbers than were computed")
