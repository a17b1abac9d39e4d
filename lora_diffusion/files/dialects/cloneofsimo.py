"""The numbered dialect of 2022, read only: `unet:<n>:down`, `text_encoder:<n>:up`, embeddings by their token.

The file names no modules: n counts the Linear layers under the target classes of Stable Diffusion 1 as diffusers
registered them at the time: down blocks, up blocks, the middle block last; attn1, then the feed-forward's first
projection, then attn2. In the text encoder k, v, q, out. The runtime scale was 1, so alpha = rank.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.files.dialects import Parts
from lora_diffusion.files.dialects._common import Collector

name = "cloneofsimo"
writable = False
methods = ("lora",)
structural = ("unet", "unet:*", "text_encoder", "text_encoder:*", "<*>")

_KEY = re.compile(r"(?P<component>unet|text_encoder):(?P<index>\d{1,4}):(?P<role>up|down)")
_EMBEDDING = "<embed>"
_TEXT_LAYERS = 12


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    return any(_KEY.fullmatch(key) for key in keys)


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    feed_forward = "GEGLU" in _classes(metadata.get("unet"))
    names = {"unet": _denoiser_names(feed_forward), "text_encoder": _text_names()}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is not None:
            known, index = names[match["component"]], int(match["index"])
            found.place(key, known[index] if index < len(known) else None, match["role"], tensor)
        elif metadata.get(key) == _EMBEDDING:
            found.embeddings[key] = tensor
        else:
            found.unplaced.append(key)
    return found.parts()


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    raise UsageError("the dialect cloneofsimo is only read", hint="write kohya, diffusers or peft")


def _classes(text: str | None) -> list[str]:
    try:
        value = json.loads(text or "")
    except ValueError:
        value = None
    return value if isinstance(value, list) else ["CrossAttention", "Attention", "GEGLU"]


@cache
def _denoiser_names(feed_forward: bool) -> tuple[str, ...]:
    between = ("ff.net.0.proj",) if feed_forward else ()
    linears = (*_attention("attn1"), *between, *_attention("attn2"))
    return tuple(f"denoiser.{block}.transformer_blocks.0.{linear}" for block in _blocks() for linear in linears)


def _blocks() -> Iterator[str]:
    yield from (f"down_blocks.{level}.attentions.{layer}" for level in (0, 1, 2) for layer in (0, 1))
    yield from (f"up_blocks.{level}.attentions.{layer}" for level in (1, 2, 3) for layer in (0, 1, 2))
    yield "mid_block.attentions.0"


def _attention(block: str) -> tuple[str, ...]:
    return tuple(f"{block}.{each}" for each in ("to_q", "to_k", "to_v", "to_out.0"))


@cache
def _text_names() -> tuple[str, ...]:
    layers = (f"text_encoder.text_model.encoder.layers.{index}.self_attn" for index in range(_TEXT_LAYERS))
    return tuple(f"{layer}.{each}" for layer in layers for each in ("k_proj", "v_proj", "q_proj", "out_proj"))
