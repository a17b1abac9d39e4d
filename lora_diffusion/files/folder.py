"""Where an adapter lies: one file, or a folder as PEFT and diffusers write it.

PEFT keeps one component per folder, its settings beside the tensors. The training examples of PEFT put two components
into the folders `unet` and `text_encoder`; both forms become one set of tensors here, and `split` is the way back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.files.hashes import HASHES
from lora_diffusion.files.safe import SafeFile, open_safe

__all__ = ["CONFIG", "CONFIG_KEY", "WEIGHTS", "Source", "source_of", "split"]

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
CONFIG_KEY = "adapter_config"
_ROOT = "base_model.model."
_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_MAX_CONFIG = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one adapter; `files` maps a component prefix ("" for none) to a file."""

    path: Path
    files: Mapping[str, SafeFile]
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".safetensors")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(_key(prefix, key) for prefix, file in self.files.items() for key in file.entries)

    def tensors(self) -> dict[str, Tensor]:
        return {_key(prefix, key): each for prefix, file in self.files.items() for key, each in file.tensors()}

    def verify(self) -> None:
        for file in self.files.values():
            file.verify()


def _key(prefix: str, key: str) -> str:
    return f"{_ROOT}{prefix}.{key.removeprefix(_ROOT)}" if prefix else key


def source_of(path: Path) -> Source:
    """Find the files of an adapter and read their headers. Raises as `open_safe` does."""
    if not path.is_dir():
        return _one_file(path, path)
    if (path / WEIGHTS).is_file():
        return _one_file(path, path / WEIGHTS)
    parts = {name: open_safe(path / name / WEIGHTS) for name in _COMPONENTS if (path / name / WEIGHTS).is_file()}
    if parts:
        return _several(path, parts)
    found = sorted(path.glob("*.safetensors"))
    if not found and (refused := sorted(path.glob("*.bin"))):
        raise UsageError(
            f"{path} holds {refused[0].name} and no .safetensors; pickles (.bin) can run code and are never read",
            hint="save the adapter again with safe_serialization=True, or ask its author for a safetensors version",
        )
    if len(found) != 1:
        raise UsageError(
            f"{path} holds {len(found)} .safetensors files, so it is not clear which one is the adapter",
            hint="name the file itself",
        )
    return _one_file(path, found[0])


def _one_file(path: Path, weights: Path) -> Source:
    file = open_safe(weights)
    metadata = dict(file.metadata)
    config = weights.with_name(CONFIG)
    if CONFIG_KEY not in metadata and any(key.startswith(_ROOT) for key in file.entries) and config.is_file():
        metadata[CONFIG_KEY] = json.dumps(_json(config))
    return Source(path=path, files={"": file}, metadata=metadata)


def _several(path: Path, files: Mapping[str, SafeFile]) -> Source:
    metadata: dict[str, str] = {}
    configs = {}
    for name, file in files.items():
        metadata |= {key: value for key, value in file.metadata.items() if key not in HASHES}
        if (path / name / CONFIG).is_file():
            configs[name] = _json(path / name / CONFIG)
    return Source(path=path, files=files, metadata=metadata | {CONFIG_KEY: json.dumps(configs)})


def _json(path: Path) -> object:
    hint = "get the folder again from where it came"
    if path.stat().st_size > _MAX_CONFIG:
        raise CorruptFile(f"{path} is larger than {_MAX_CONFIG} bytes, so it is no adapter configuration", hint=hint)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise CorruptFile(f"{path} is no JSON", hint=hint) from None


def split(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Return the tensors and the configuration of each folder of a PEFT adapter; "" is the folder itself."""
    config = json.loads(metadata[CONFIG_KEY])
    if "peft_type" in config:
        return {"": (dict(tensors), json.dumps(config, indent=2, sort_keys=True))}
    result = {}
    for name, each in config.items():
        start = f"{_ROOT}{name}."
        own = {_ROOT + key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
        result[name] = own, json.dumps(each, indent=2, sort_keys=True)
    return result
