"""What was written, read again before it takes its place: the same bytes, and the numbers that were meant."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint
from lora_diffusion.files.safe import Entry, SafeFile, open_safe, shares_of
from lora_diffusion.files.writing import Written

__all__ = ["Sources", "digest", "flushed_beside", "read_back", "require_numbers", "verified_beside"]

Sources = Mapping[str, tuple[SafeFile, str]]
"""Tensors of a file that lie in another one with the same bytes: that file and the name there, by name here."""


# Two pieces lie in the cache of a core while they are compared: measured, 1 MiB took 0.3 s per GB, 4 MiB 1 s.
_PIECE = 512 << 10
_READERS = min(2, os.cpu_count() or 1)  # two read from memory faster than most disks write


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
    """Verify a base that says a hash of ours while it is read for something else.

    Raises CorruptFile, at the end of the block and whatever went wrong in it, where such a file is damaged.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as beside:
        verifying = beside.submit(checkpoint.verify)
        try:
            yield
        finally:
            verifying.result()


def read_back(path: Path, written: Written, sources: Sources) -> None:
    """Check each byte of a file that was just written without hashes in its header.

    A tensor of `sources` was written as it lies in another file and is compared with that, which takes a third of the
    time of a hash; others are compared with the digests in `written`.

    Raises CorruptFile where the file holds other bytes than were given to be written.
    """
    file = open_safe(path)
    with path.open("rb") as raw:
        same = raw.read(len(written.header)) == written.header
    shares = shares_of(list(file.entries.values()), _READERS)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read-back") as beside:
        same = all(beside.map(lambda share: _same(path, share, written.digests, sources), shares)) and same
    if not same:
        raise CorruptFile(
            f"{path.name}: the tensors are not those that were written",
            hint="the disk or the memory fails, or another program changed the base meanwhile: merge again",
        )


def _same(path: Path, entries: Sequence[Entry], digests: Mapping[str, bytes], sources: Sources) -> bool:
    with _Reader(path) as reader:
        return all(
            reader.equals(entry, *sources[entry.name])
            if entry.name in sources
            else reader.digest(entry) == digests[entry.name]
            for entry in entries
        )


class _Reader:
    """Reads tensors of a file, and of others to compare with."""

    def __init__(self, path: Path) -> None:
        self._closing, self._opened = ExitStack(), dict[Path, BinaryIO]()
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def digest(self, entry: Entry) -> bytes:
        result = hashlib.sha256()
        for piece in self._pieces(self._path, entry):
            result.update(piece)
        return result.digest()

    def equals(self, entry: Entry, source: SafeFile, name: str) -> bool:
        """Say whether a tensor holds the bytes of one of another file, of the same size."""
        pieces = zip(self._pieces(self._path, entry), self._pieces(source.path, source.entries[name]), strict=True)
        return all(here == there for here, there in pieces)

    def _pieces(self, path: Path, entry: Entry) -> Iterator[bytes]:
        if path not in self._opened:
            self._opened[path] = self._closing.enter_context(path.open("rb", buffering=0))
        file = self._opened[path]
        file.seek(entry.start)
        for start in range(0, entry.size, _PIECE):
            yield file.read(min(_PIECE, entry.size - start))


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
        if key in digests and digest(found.tensor(key)) != digests[key]:
            raise VerificationFailed(f"{key} reads back with other numbers than were computed")
