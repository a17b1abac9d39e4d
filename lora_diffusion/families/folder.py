"""Base models as diffusers folders."""

import json
from pathlib import Path
from typing import Any

from lora_diffusion.errors import BaseNotFound

__all__ = ["pretrained", "quiet", "read_json", "sampler"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a config file. Raises BaseNotFound naming it."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BaseNotFound(f"{path} is missing or damaged: {error}", hint="download the base model again") from error
    return dict(content)


def pretrained(cls: Any, folder: Path, **options: Any) -> Any:
    """Load a module of a pipeline from its folder, in plain or fp16-variant files, never from the network.

    Raises BaseNotFound naming the folder.
    """
    from safetensors import SafetensorError

    plain = any(".fp16." not in file.name for file in folder.glob("*.safetensors"))
    try:
        return cls.from_pretrained(
            folder, variant=None if plain else "fp16", local_files_only=True, use_safetensors=True, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise BaseNotFound(
            f"{folder} cannot be loaded as {cls.__name__}: {str(error).splitlines()[0]}",
            hint="the folder needs config.json and .safetensors weights; pickled weights are not read",
        ) from error


def quiet() -> None:
    """Silence transformers while a base model loads.

    It calls tensors missing that an older layout names otherwise, draws its own bars, and asks for torchvision.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def sampler(config: dict[str, Any]) -> Any:
    """Return the sampler for a scheduler config: DDIM, or the noise schedule's own where DDIM cannot read it.

    One sampler for every base keeps pictures comparable; its schedule and prediction type are the base's.
    """
    from diffusers import DDIMScheduler

    if config.get("_class_name") != DDIMScheduler.__name__:
        # configs of other samplers do not say what those never do: DDIM would cut latents off at -1 and 1
        config = {"clip_sample": False, "set_alpha_to_one": False, **config}
    return DDIMScheduler.from_config(config)
