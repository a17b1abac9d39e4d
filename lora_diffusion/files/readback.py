"""What was written, read again before it takes its place: the same bytes, and the numbers that were meant."""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint
from lora_diffusion.files.safe import HASH_KEY, open_safe, running_hash

__all__ = ["digest", "read_back", "require_numbers"]

_CHUNK = 4 << 20


def digest(tensor: Tensor) -> bytes:
    """Return the SHA-256 of the numbers of a tensor as they are stored."""
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()


def read_back(path: Path, names: Collection[str]) -> str:
    """Return the SHA-256 of a file that was just written; the hash in its metadata is made anew in the same pass.

    Raises CorruptFile where its tensors are not those that were given to be written, VerificationFailed where their
    names are others.
    """
    file = open_safe(path)
    if set(file.entries) != set(names):
        raise VerificationFailed(f"{path.name} reads back with other tensors than were written")
    ours, whole = running_hash(HASH_KEY, file.entries.values(), file.metadata), hashlib.sha256()
    assert ours is not None
    with path.open("rb", buffering=0) as bytes_, ThreadPoolExecutor(1, thread_name_prefix="sha256") as beside:
        whole.update(bytes_.read(file.payload))
        while data := bytes_.read(_CHUNK):
            hashing = beside.submit(whole.update, data)
            ours.update(data)
            hashing.result()
    if ours.text() != file.metadata.get(HASH_KEY):
        raise CorruptFile(
            f"{path.name}: the tensors are not those that were written (SHA-256 differs)",
            hint="the disk or the memory fails: check both, then merge again",
        )
    return whole.hexdigest()


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
