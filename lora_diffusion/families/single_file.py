"""Base models as one .safetensors file in the original layout.

Such a file holds tensors only. What is missing comes from our own metadata where we wrote the file, else from the small
configs of the real architecture in `configs/`; a tokenizer is never guessed.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families.folder import read_json
from lora_diffusion.families.layout import layout_of_configs
from lora_diffusion.families.names import path_of

__all__ = ["CONFIGS_KEY", "TOKENIZER_KEY", "configs", "fill", "holds_sd1", "tokenizer_folder"]

_CONFIGS = Path(__file__).parent / "configs" / "sd1"
CONFIGS_KEY = "lora_diffusion.configs"
"""JSON of the configs of unet, vae, text_encoder and scheduler, in the metadata of every single file of ours."""
TOKENIZER_KEY = "lora_diffusion.tokenizer"
"""JSON of the tokenizer's files, where they are small; the one of CLIP is 1.5 MB and at hand everywhere."""
_CONTEXT = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_OTHERS = (1024, 1280, 2048)  # context widths of Stable Diffusion 2, the XL refiner and XL


def holds_sd1(path: Path) -> bool:
    """Say whether a file is a checkpoint of Stable Diffusion 1 in the original layout."""
    with _opened(path) as file:
        return _CONTEXT in file.keys() and file.get_slice(_CONTEXT).get_shape()[1] not in _OTHERS  # noqa: SIM118


def configs(path: Path) -> dict[str, dict[str, Any]]:
    """Return the configs of unet, vae, text_encoder and scheduler: from our metadata, else the architecture's own."""
    with _opened(path) as file:
        stored = (file.metadata() or {}).get(CONFIGS_KEY)
    known = {name: read_json(_CONFIGS / f"{name}.json") for name in ("unet", "vae", "text_encoder", "scheduler")}
    return {**known, **(json.loads(stored) if stored else {})}


@contextmanager
def tokenizer_folder(path: Path) -> Iterator[Path | None]:
    """Give the tokenizer that a file of ours carries as a folder for the length of a block, None where it has none."""
    with _opened(path) as file:
        stored = (file.metadata() or {}).get(TOKENIZER_KEY)
    if not stored:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, text in json.loads(stored).items():
            (Path(folder) / Path(name).name).write_text(text, "utf-8")
        yield Path(folder)


def fill(modules: Mapping[str, nn.Module], path: Path, found: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Put the tensors of a file into modules that are on the meta device, by component name.

    Raises BaseNotFound naming the first tensor that is missing or of another shape.
    """
    layout = layout_of_configs(found["unet"], found["vae"])
    states: dict[str, dict[str, Tensor]] = {component: {} for component in modules}
    wanted = {component: module.state_dict() for component, module in modules.items()}
    with _opened(path) as file:
        for key in file.keys():  # noqa: SIM118 - the file is no mapping
            name = layout.canonical(key) or ""
            component = name.partition(".")[0]
            runtime = _runtime(name, modules.get(component))
            if runtime in wanted.get(component, {}):
                states[component][runtime] = _fitted(file.get_tensor(key), wanted[component][runtime], dtype, path, key)
    for component, module in modules.items():
        _require_all(path, component, wanted[component], states[component])
        module.load_state_dict(states[component], strict=False, assign=True)
        _fill_buffers(module)


def _runtime(name: str, module: nn.Module | None) -> str:
    """Return the name that a canonical tensor has inside its module today."""
    inside = path_of(name)
    return inside if module is None or hasattr(module, "text_model") else inside.removeprefix("text_model.")


def _fitted(tensor: Tensor, wanted: Tensor, dtype: torch.dtype, path: Path, key: str) -> Tensor:
    if tensor.numel() != wanted.numel():
        raise BaseNotFound(
            f"{path.name}: {key} is {tuple(tensor.shape)}, and Stable Diffusion 1 has {tuple(wanted.shape)} there",
            hint="this is another kind of base model, or a smaller one without its configs; use its diffusers folder",
        )
    tensor = tensor.reshape(wanted.shape)  # attention of the VAE: 1x1 convolutions in the file, Linear in the module
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _require_all(path: Path, component: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in state and not name.endswith("position_ids")]
    if missing:
        raise BaseNotFound(
            f"{path.name} lacks {len(missing)} tensors of the {component}, first {missing[0]}",
            hint="a base model needs denoiser, text encoder and VAE in one file; use a complete checkpoint",
        )


def _fill_buffers(module: nn.Module) -> None:
    """Make the buffers that files do not hold: position numbers, still on the meta device."""
    for owner in module.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            if buffer.is_meta:
                owner.register_buffer(name, torch.arange(buffer.shape[-1]).expand(buffer.shape), persistent=False)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise BaseNotFound(
            f"{path} is no readable .safetensors file: {error}",
            hint="download it again; pickled checkpoints (.ckpt) are not read",
        ) from error
