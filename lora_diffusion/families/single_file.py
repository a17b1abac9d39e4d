"""Base models as one .safetensors file in the original layout.

Such a file holds tensors only. What is missing comes from our own metadata where we wrote the file, else from the small
configs of the real architecture in `configs/`; a tokenizer is never guessed.
"""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families.folder import read_json
from lora_diffusion.families.layout import Layout
from lora_diffusion.families.names import path_of

__all__ = ["CONFIGS_KEY", "TOKENIZER_KEY", "Header", "configs", "fill", "header", "tokenizer_folder"]

_CONFIGS = Path(__file__).parent / "configs"
CONFIGS_KEY = "lora_diffusion.configs"
"""JSON of the configs of the components by folder, scheduler included, in the metadata of every single file of ours."""
TOKENIZER_KEY = "lora_diffusion.tokenizer"
"""JSON of the tokenizer's files, where they are small; the one of CLIP is 1.5 MB and at hand everywhere."""
_UNET = "model.diffusion_model."


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a single file says of itself without its tensors: their shapes by key, and its metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    def starts(self, prefix: str) -> bool:
        """Say whether a key starts so."""
        return any(key.startswith(prefix) for key in self.shapes)

    @cached_property
    def context(self) -> int | None:
        """Width of the text that cross-attention takes, None where there is none."""
        for key, shape in self.shapes.items():
            if key.startswith(_UNET) and key.endswith(".attn2.to_k.weight"):
                return shape[1]
        return None

    @cached_property
    def channels(self) -> tuple[int, int] | None:
        """Channels that the denoiser takes and gives, None where there is no UNet."""
        into, out = (self.shapes.get(f"{_UNET}{key}.weight") for key in ("input_blocks.0.0", "out.2"))
        return (into[1], out[0]) if into and out else None


def header(path: Path) -> Header:
    """Read the header of a file. Raises BaseNotFound where it is none of .safetensors."""
    with _opened(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        return Header(shapes=shapes, metadata=file.metadata() or {})


def configs(found: Header, family: str) -> dict[str, dict[str, Any]]:
    """Return the configs of every component by folder: from our metadata, else the architecture's own."""
    stored = found.metadata.get(CONFIGS_KEY)
    known = {each.stem: read_json(each) for each in sorted((_CONFIGS / family).glob("*.json"))}
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


def fill(modules: Mapping[str, nn.Module], path: Path, layout: Layout, dtypes: Mapping[str, torch.dtype]) -> None:
    """Put the tensors of a file into modules that are on the meta device, by component name.

    Raises BaseNotFound naming the first tensor that is missing or of another shape, or scaled to 8 bits.
    """
    states: dict[str, dict[str, Tensor]] = {component: {} for component in modules}
    wanted = {component: module.state_dict() for component, module in modules.items()}
    with _opened(path) as file:
        _refuse_scaled(path, file.keys())
        for key in file.keys():  # noqa: SIM118 - the file is no mapping
            for name in layout.keys(key):
                component = name.partition(".")[0]
                runtime = _runtime(name, modules.get(component))
                place = layout.place(name)
                if place and runtime in wanted.get(component, {}):
                    like = wanted[component][runtime]
                    tensor = place.ours(file.get_tensor(key))
                    states[component][runtime] = _fitted(tensor, like, dtypes[component], path, key)
    for component, module in modules.items():
        _require_all(path, component, wanted[component], states[component])
        module.load_state_dict(states[component], strict=False, assign=True)
        _fill_buffers(module)


def _refuse_scaled(path: Path, keys: Collection[str]) -> None:
    """Weights of scaled 8-bit files mean nothing without their scales: read as they are they load and draw noise."""
    scale = next((key for key in keys if key.endswith((".weight_scale", ".scale_weight", "scaled_fp8"))), None)
    if scale is not None:
        raise BaseNotFound(
            f"{path} holds weights scaled to 8 bits ({scale})",
            hint="use the 16- or 32-bit checkpoint that it was made of; ComfyUI draws with this one",
        )


def _runtime(name: str, module: nn.Module | None) -> str:
    """Return the name that a canonical tensor has inside its module today."""
    inside = path_of(name)
    return inside if module is None or hasattr(module, "text_model") else inside.removeprefix("text_model.")


def _fitted(tensor: Tensor, wanted: Tensor, dtype: torch.dtype, path: Path, key: str) -> Tensor:
    if tensor.numel() != wanted.numel():
        raise BaseNotFound(
            f"{path.name}: {key} is {tuple(tensor.shape)}, and this architecture has {tuple(wanted.shape)} there",
            hint="this is another kind of base model, or a smaller one without its configs; use its diffusers folder",
        )
    tensor = tensor.reshape(wanted.shape)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _require_all(path: Path, component: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in wanted if name not in state and not name.endswith("position_ids")]
    if missing:
        raise BaseNotFound(
            f"{path.name} lacks {len(missing)} tensors of the {component}, first {missing[0]}",
            hint="a base model needs denoiser, text encoders and VAE in one file; use a complete checkpoint",
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
