"""What was written, read again before it takes its place: the same bytes, and the numbers that were meant."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint
from lora_diffusion.files.hashes import HASH_KEY, content_hash
from lora_diffusion.files.passing import Sources
from lora_diffusion.files.safe import SafeFile, open_safe

__all__ = ["digest", "flushed_beside", "read_back", "require_numbers"]

# Two pieces lie in the cache of a core while they are compared: measured, 1 MiB took 0.3 s per GB, 4 MiB 1 s.
_PIECE = 512 << 10
_AHEAD = 8  # pieces that may wait for the hash of the file


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


def read_back(path: Path, written: Mapping[str, bytes], sources: Sources | None = None) -> str:
    """Return the SHA-256 of a file that was just written, after each of its bytes was checked in the same pass.

    `written` holds the digest of each tensor by name. A tensor of `sources` was written as it lies in another file and
    is compared with that, which takes a third of the time of a second hash.

    Raises CorruptFile where its tensors are not those that were given to be written, VerificationFailed where their
    names are others.
    """
    file = open_safe(path)
    if set(file.entries) != set(written):
        raise VerificationFailed(f"{path.name} reads back with other tensors than were written")
    if file.metadata.get(HASH_KEY) != content_hash(file.entries.values(), file.metadata, written):
        raise _other(path)
    with _Reader(path) as reader:
        reader.skip(file.payload)
        for name, entry in file.entries.items():
            source = (sources or {}).get(name)
            same = reader.digest(entry.size) == written[name] if source is None else reader.equals(*source)
            if not same and file.digests([name])[name] != written[name]:  # the source may have changed, too
                raise _other(path)
        return reader.sha256()


def _other(path: Path) -> CorruptFile:
    return CorruptFile(
        f"{path.name}: the tensors are not those that were written (SHA-256 differs)",
        hint="the disk or the memory fails: check both, then merge again",
    )


class _Reader:
    """Reads a file once from its beginning to its end, while its hash is made beside."""

    def __init__(self, path: Path) -> None:
        self._closing, self._opened = ExitStack(), dict[Path, BinaryIO]()
        self._file = self._open(path)
        self._beside = self._closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="sha256"))
        self._whole, self._under_way = hashlib.sha256(), deque[Future[None]]()

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def skip(self, size: int) -> None:
        for _ in self._pieces(size):
            pass

    def digest(self, size: int) -> bytes:
        """Return the SHA-256 of the next bytes."""
        result = hashlib.sha256()
        for piece in self._pieces(size):
            result.update(piece)
        return result.digest()

    def equals(self, source: SafeFile, name: str) -> bool:
        """Say whether the next bytes are those of a tensor of another file."""
        entry, other, same = source.entries[name], self._open(source.path), True
        other.seek(entry.start)
        for piece in self._pieces(entry.size):
            same = other.read(len(piece)) == piece and same
        return same

    def sha256(self) -> str:
        """Return the SHA-256 of all that was read."""
        while self._under_way:
            self._under_way.popleft().result()
        return self._whole.hexdigest()

    def _pieces(self, size: int) -> Iterator[bytes]:
        for start in range(0, size, _PIECE):
            piece = self._file.read(min(_PIECE, size - start))
            self._under_way.append(self._beside.submit(self._whole.update, piece))
            if len(self._under_way) > _AHEAD:
                self._under_way.popleft().result()
            yield piece

    def _open(self, path: Path) -> BinaryIO:
        if path not in self._opened:
            self._opened[path] = self._closing.enter_context(path.open("rb", buffering=0))
        return self._opened[path]


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
