"""What was written, read again before it takes its place: the same bytes, and the numbers that were meant."""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from datasets_tools.storage import sha256_file
from lora_diffusion.errors import VerificationFailed
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint
from lora_diffusion.files.safe import open_safe

__all__ = ["digest", "read_back", "require_numbers"]


def digest(tensor: Tensor) -> bytes:
    """Return the SHA-256 of the numbers of a tensor as they are stored."""
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()


def read_back(path: Path, names: Collection[str]) -> str:
    """Return the SHA-256 of a file that was just written, beside making the hash in its metadata anew.

    Raises CorruptFile where its tensors are not those that were given to be written, VerificationFailed where their
    names are others.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as beside:
        hashing = beside.submit(sha256_file, path)
        file = open_safe(path)
        file.verify()
        if set(file.entries) != set(names):
            raise VerificationFailed(f"{path.name} reads back with other tensors than were written")
        return hashing.result()


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
