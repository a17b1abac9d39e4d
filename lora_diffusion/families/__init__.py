"""One file per family of base models; adding a family is adding a file."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lora_diffusion.embedded import BASE
from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families.base import Family
from lora_diffusion.families.variants import refuse_variants

__all__ = ["detect", "families", "family", "locate"]


@cache
def families() -> dict[str, Family]:
    """Return every family of this package by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return {cls.name: cls() for cls in _below(Family)}


def _below(cls: Any) -> Iterator[Any]:
    for each in cls.__subclasses__():
        if not inspect.isabstract(each):
            yield each
        yield from _below(each)


def family(name: str) -> Family:
    """Return the family of that name. Raises BaseNotFound with the known names."""
    if name not in families():
        raise BaseNotFound(f"family {name!r} is not known", hint=f"use one of: {', '.join(sorted(families()))}")
    return families()[name]


def detect(path: Path, name: str = "auto") -> Family:
    """Return the family of a base model by its files, or the one that was named.

    Raises BaseNotFound for what is none, and for relatives that cannot be trained here (inpainting, refiner), by name.
    """
    refuse_variants(path)
    if name != "auto":
        return family(name)
    for each in families().values():
        if each.detect(path):
            return each
    raise BaseNotFound(
        f"{path} is no base model of a known family ({', '.join(sorted(families()))})",
        hint="name a diffusers folder with model_index.json, or a .safetensors checkpoint with everything in it",
    )


def locate(base: str) -> Path:
    """Return the local path of a base model: `demo`, a folder, a file, or a hub id that is fetched once.

    Raises BaseNotFound when it is none of these or cannot be fetched.
    """
    if base == "demo":
        return BASE
    path = Path(base).expanduser()
    if path.exists():
        return path
    if (
        base.count("/") == 1
        and not base.startswith((".", "/", "~"))
        and path.suffix not in (".safetensors", ".ckpt", ".bin", ".pt")
    ):
        return _fetch(base)
    raise BaseNotFound(f"there is no base model at {base}", hint="name a folder, a .safetensors file, a hub id or demo")


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    folders = ("unet", "vae", "text_encoder", "text_encoder_2")
    weights = [f"{folder}/{name}" for folder in folders for name in ("model.safetensors", "diffusion_*.safetensors")]
    configs = [
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "tokenizer_2/*",
        *(f"{each}/*.json" for each in folders),
    ]
    wanted = [*configs, *weights]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=["*.fp16.*", "*.non_ema.*"]))
    except Exception as error:
        raise BaseNotFound(
            f"{hub_id} is neither a local path nor could it be fetched from the hub: {type(error).__name__}",
            hint="check the spelling and the network, accept its licence on the hub, or name a local path",
        ) from error
