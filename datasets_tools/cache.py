"""Content-addressed tensors on disk: computed once, verified on every read, shared by runs.

The key is a hash of everything that decides the value, so an entry is never stale; peers that key by file name train on
the old picture after an edit (kohya_ss 1629).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.storage import replacing

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TensorCache", "cache_key", "tensors_digest"]

# Raise it whenever the meaning of cached tensors changes in the code that makes them.
_CODE_VERSION = 1
_log = logging.getLogger("datasets_tools")


class _Damaged(Exception):
    pass


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
    """Named tensors by key under a folder, one safetensors file per entry. Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)

    def has(self, key: str) -> bool:
        """Say whether an entry exists; whether it is whole is found on reading."""
        return self._path(key).is_file()

    def get(self, key: str, make: Callable[[], Mapping[str, "Tensor"]]) -> dict[str, "Tensor"]:
        """Return the entry on the CPU, bit-equal to what `make` returned; make and store it where absent or damaged.

        A damaged entry is logged as a warning and made again. Raises OutOfSpace.
        """
        path = self._path(key)
        if path.is_file():
            try:
                return _read(path, key)
            except _Damaged as damage:
                _log.warning("cache entry %s is damaged (%s); it is computed again", path, damage)
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in make().items()}
        _write(path, key, tensors)
        return tensors

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def tensors_digest(tensors: Mapping[str, "Tensor"]) -> str:
    """Return a SHA-256 over names, dtypes, shapes and bytes, independent of their order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise _Damaged(str(error)) from error
    if metadata.get("key") != key or metadata.get("sha256") != tensors_digest(tensors):
        raise _Damaged("its contents do not match their checksum")
    return tensors


def _write(path: Path, key: str, tensors: dict[str, "Tensor"]) -> None:
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"key": key, "sha256": tensors_digest(tensors)})


def _plain(part: object) -> Any:
    if is_dataclass(part) and not isinstance(part, type):
        return {"type": type(part).__name__, **asdict(part)}
    raise TypeError(f"a cache key cannot hold {part!r}; use text, numbers, lists or dataclasses")
