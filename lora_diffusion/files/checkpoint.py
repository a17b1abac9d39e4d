"""A full base model on disk, as a stream of tensors under canonical names, whatever layout it has."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import detect
from lora_diffusion.families import family as family_of_name
from lora_diffusion.families.base import Family
from lora_diffusion.families.layout import Layout, Place, from_folder_key, layout_of_keys
from lora_diffusion.families.single_file import CONFIGS_KEY, TOKENIZER_KEY
from lora_diffusion.files.safe import SafeFile, open_safe

__all__ = ["CONFIGS_KEY", "EXTRA", "TOKENIZER_KEY", "Checkpoint", "Stored", "open_checkpoint"]

EXTRA = "extra."
"""Stands before keys of a single file that belong to no component, such as an EMA copy; they are kept as they are."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where one tensor lies, and its shape under its canonical name; `place` tells how a single file holds it."""

    file: SafeFile
    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A base model whose headers are read. `folder` is None for a single file; `configs` may be empty then.

    `tokenizer` is the text of small tokenizers by file name.
    """

    path: Path
    family: str
    layout: Layout
    tensors: Mapping[str, Stored]
    configs: Mapping[str, Any]
    metadata: Mapping[str, str]
    tokenizer: Mapping[str, str]

    @property
    def folder(self) -> Path | None:
        return self.path if self.path.is_dir() else None

    @property
    def kind(self) -> Family:
        """The family itself."""
        return family_of_name(self.family)

    def tensor(self, key: str) -> Tensor:
        """Read one tensor by its canonical key, in the shape that diffusers gives it."""
        stored = self.tensors[key]
        tensor = stored.file.tensor(stored.key)
        return (stored.place.ours(tensor) if stored.place else tensor).reshape(stored.shape)

    @property
    def files(self) -> tuple[SafeFile, ...]:
        """The files that hold its tensors, each once."""
        return tuple({id(each.file): each.file for each in self.tensors.values()}.values())

    def verify(self) -> None:
        """Raise CorruptFile where a file of ours is not what was written."""
        for file in self.files:
            file.verify()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a diffusers folder or a single file in the original layout.

    Raises BaseNotFound for something else, CorruptFile and UnknownDialect as `open_safe` does.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise BaseNotFound(f"there is no base model at {path}", hint="name a diffusers folder or a .safetensors file")
    return _single_file(path)


def _single_file(path: Path) -> Checkpoint:
    file = open_safe(path)
    _require_known(path, file.entries)
    family, configs = detect(path), _object(file.metadata.get(CONFIGS_KEY))
    layout = family.layout(configs) if configs else layout_of_keys(file.entries)
    tensors: dict[str, Stored] = {}
    for key in file.entries:
        for canonical in layout.keys(key) or (f"{EXTRA}{key}",):
            tensors[canonical] = _stored(file, key, layout.place(canonical))
    return Checkpoint(
        path=path,
        family=family.name,
        layout=layout,
        tensors=tensors,
        configs=configs,
        metadata=file.metadata,
        tokenizer=_object(file.metadata.get(TOKENIZER_KEY)),
    )


def _require_known(path: Path, keys: Iterable[str]) -> None:
    if not any(key.startswith("model.diffusion_model.input_blocks.0.0.") for key in keys):
        shown = ", ".join(list(keys)[:3])
        raise BaseNotFound(
            f"{path.name} is no checkpoint of Stable Diffusion in the original layout (it has {shown} ...)",
            hint="an adapter goes to --adapter; a base model has model.diffusion_model.* tensors, or is a folder",
        )


def _stored(file: SafeFile, key: str, place: Place | None) -> Stored:
    entry = file.entries[key]
    shape = place.shape(entry.shape) if place else entry.shape
    return Stored(file=file, key=key, dtype=entry.dtype, shape=shape, place=place)


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _folder(path: Path) -> Checkpoint:
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        _config(path / name)
    family = detect(path)
    configs = family.configs(path)
    try:
        layout = family.layout(configs)
    except ValueError as error:
        raise BaseNotFound(f"{path}: {error}", hint="use a base model of the usual shape") from None
    tensors: dict[str, Stored] = {}
    for component, name in family.folders.items():
        for file in _weights(path / name):
            for key in file.entries:
                canonical = from_folder_key(component, key)
                tensors[canonical] = _in_folder(file, key, layout.place(canonical))
    return Checkpoint(
        path=path,
        family=family.name,
        layout=layout,
        tensors=tensors,
        configs=configs,
        metadata={},
        tokenizer=_tokenizer(path / "tokenizer"),
    )


def _in_folder(file: SafeFile, key: str, place: Place | None) -> Stored:
    entry = file.entries[key]
    matrix = place is not None and place.kernel  # old autoencoders have 1x1 convolutions in folders too
    return Stored(file=file, key=key, dtype=entry.dtype, shape=entry.shape[:2] if matrix else entry.shape)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / ("scheduler_config.json" if folder.name == "scheduler" else "config.json")
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaseNotFound(
            f"{folder.parent} is no diffusers folder of Stable Diffusion: {path.name} of {folder.name} cannot be read",
            hint="name the folder that holds model_index.json, or a .safetensors file",
        ) from error
    return dict(value)


def _weights(folder: Path) -> list[SafeFile]:
    """Return the weight files of a component: whole or in shards, full precision before the fp16 variant."""
    for variant in ("", ".fp16"):
        for stem in ("diffusion_pytorch_model", "model"):
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                shards = sorted(set(_object(index.read_text("utf-8")).get("weight_map", {}).values()))
                return [open_safe(folder / Path(shard).name) for shard in shards]
            if (folder / f"{stem}{variant}.safetensors").is_file():
                return [open_safe(folder / f"{stem}{variant}.safetensors")]
    raise BaseNotFound(
        f"{folder} has no weights in .safetensors",
        hint="download the .safetensors version; pickled .bin files are never opened",
    )


def _tokenizer(folder: Path) -> dict[str, str]:
    """Return the texts of a tokenizer of at most 1 MB: the one of CLIP is larger, and known to every program."""
    files = [file for file in sorted(folder.glob("*")) if file.suffix in (".json", ".txt")] if folder.is_dir() else []
    if sum(file.stat().st_size for file in files) > 1_000_000:
        return {}
    return {file.name: file.read_text("utf-8") for file in files}
