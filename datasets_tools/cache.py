"""Content-addressed tensors on disk: computed once, verified on every read, shared by runs.

The key is a hash of everything that decides the value, so an entry is never stale; peers that key by file name train on
the old picture after an edit (kohya_ss 1629).
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from datasets_tools.errors import DatasetError, OutOfSpace
from datasets_tools.shards import Shards, is_full

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TensorCache", "cache_key", "tensors_digest"]

# Raise it whenever the meaning of cached tensors changes in the code that makes them.
_CODE_VERSION = 1
_MOST_SECONDS = 15.0
_log = logging.getLogger("datasets_tools")


def cache_key(**parts: object) -> str:
    """Return the SHA-256 hex key of the parts: JSON values or dataclasses, in any order.

    Name everything that decides the tensors: image SHA-256, crop, encoder fingerprint, dtype. Raises TypeError for a
    part that has no canonical form.
    """
    canonical = json.dumps(
        {"code": _CODE_VERSION, "parts": parts},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        default=_plain,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


class TensorCache:
    """Named tensors by key in a folder, many to a file. Several processes may share it; threads may not share one.

    Within `with cache:` new entries are gathered and written together when they are 512 or 64 MB, when 15 seconds have
    passed since the last write, and at the end, also after an error; a kill loses at most those 15 seconds. Outside
    each is written at once. Where the folder cannot be written, entries are made without being stored, and the log
    says so once.

    Args:
        folder: made on the first write.
        clock: seconds from any start.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = Path(folder)
        self._shards = Shards(self._folder)
        self._clock = clock
        self._gathered: dict[str, bytes] = {}
        self._written = 0.0
        self._depth = 0
        self._writable = True

    def __enter__(self) -> Self:
        if not self._depth:
            self._written = self._clock()
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        try:
            self._write()
        except OutOfSpace as error:
            if kind is None:
                raise
            _log.warning("%s", error)  # the first error is the one to report

    def has(self, key: str) -> bool:
        """Say whether an entry exists; whether it is whole is found on reading."""
        return key in self._gathered or self._shards.has(key)

    def get(self, key: str, make: Callable[[], Mapping[str, "Tensor"]]) -> dict[str, "Tensor"]:
        """Return the entry on the CPU, bit-equal to what `make` returned; make and store it where absent or damaged.

        A damaged entry is logged as a warning and made again. Raises OutOfSpace.
        """
        from safetensors.torch import load, save

        record = self._gathered.get(key) or self._shards.read(key)
        if record is not None:
            return load(record)
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in make().items()}
        if self._writable:
            self._gathered[key] = save(tensors)
            if not self._depth or is_full(self._gathered) or self._clock() - self._written >= _MOST_SECONDS:
                self._write()
        return tensors

    def compact(self) -> None:
        """Merge small and damaged files into full ones; entries stay, damaged ones go.

        Reads everything once. Safe against a kill at any point, beside readers and beside other writers. Raises
        OutOfSpace and DatasetError.
        """
        self._shards.compact()

    def _write(self) -> None:
        try:
            if self._gathered:
                self._shards.write(self._gathered)
        except OutOfSpace:
            raise
        except (DatasetError, OSError) as error:
            self._writable = False
            _log.warning("nothing is cached: %s", error)
        self._gathered.clear()
        self._written = self._clock()


def tensors_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Return a SHA-256 over names, dtypes, shapes and bytes, independent of their order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(part: object) -> Any:
    if is_dataclass(part) and not isinstance(part, type):
        return {"type": type(part).__name__, **asdict(part)}
    raise TypeError(f"a cache key cannot hold {part!r}; use text, numbers, lists or dataclasses")
