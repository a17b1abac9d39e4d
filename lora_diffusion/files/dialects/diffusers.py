"""The dialect of diffusers, in the four key styles that it has had, and the adapter header of today.

| style | UNet | text encoder |
|---|---|---|
| 0.13 | `<attn>.processor.to_q_lora.down.weight`, no prefix | none |
| 0.17 | `unet.` + the above | `text_encoder.<attn>.to_q_lora.down.weight` |
| 0.22 | `unet.<module>.lora.down.weight` | `text_encoder.<module>.lora_linear_layer.down.weight` |
| PEFT | `unet.<module>.lora_A.weight` | `text_encoder.<module>.lora_A.weight` |

Ours is the last one with the header `lora_adapter_metadata`: diffusers builds its LoraConfig from exactly these fields,
so no more than it knows are written, and module names are without `text_model`, which matches with and without it.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families.names import canonical, component_of, path_of
from lora_diffusion.files.dialects import Parts
from lora_diffusion.files.dialects._common import Collector, json_object, number, one_alpha
from lora_diffusion.files.dialects._peft import alpha_of

name = "diffusers"
writable = True
structural = ("lora_adapter_metadata",)

_PREFIXES = {"denoiser": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}
_COMPONENTS = {prefix: component for component, prefix in _PREFIXES.items()}
_KEY = re.compile(
    r"(?:(?P<prefix>unet|text_encoder|text_encoder_2)\.)?(?P<path>.+?)"
    r"(?:\.processor)?(?P<old>\.to_(?:q|k|v|out)_lora|\.lora_linear_layer|\.lora|)"
    r"\.(?P<factor>down|up|lora_A|lora_B|alpha)(?:\.default)?(?:\.weight)?"
)
_ROLES = {"down": "down", "lora_A": "down", "up": "up", "lora_B": "up", "alpha": "alpha"}
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OLDEST = "no unet. prefix (diffusers 0.13 to 0.16): added, diffusers itself loads nothing from such a file"
_NO_TEXT_MODEL = "text encoder without text_model: added, other programs ignore such keys"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    return any(_is_ours(key) for key in keys)


def _is_ours(key: str) -> bool:
    match = _KEY.fullmatch(key)
    return match is not None and (match["prefix"] is not None or ".processor." in key) and match["factor"] != "alpha"


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        module = None if match is None else _module(match, found)
        role = "" if match is None else _ROLES[match["factor"]]
        found.place(key, module, role, tensor)
    _add_alphas(found, json_object(metadata.get("lora_adapter_metadata")))
    return found.parts()


def _module(match: re.Match[str], found: Collector) -> str | None:
    component = _COMPONENTS[match["prefix"] or "unet"]
    path = match["path"]
    if match["prefix"] is None:
        if ".processor." not in match.string:
            return None
        found.mended[_OLDEST] += 1
    if match["old"].startswith(".to_"):
        projection = match["old"][1:].removesuffix("_lora")
        path += f".{_old_projection(component, projection)}"
    module = canonical(component, path)
    if module != f"{component}.{path}":
        found.mended[_NO_TEXT_MODEL] += 1
    return module


def _old_projection(component: str, projection: str) -> str:
    if component != "denoiser":
        return _OLD_TEXT[projection]
    return "to_out.0" if projection == "to_out" else projection


def _add_alphas(found: Collector, header: Mapping[str, Any]) -> None:
    for module, pieces in found.pieces.items():
        if "alpha" not in pieces and "down" in pieces:
            prefix = f"{_PREFIXES[component_of(module)]}."
            config = {key.removeprefix(prefix): value for key, value in header.items() if key.startswith(prefix)}
            pieces["alpha"] = number(alpha_of(config, path_of(module), pieces["down"]))


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {}
    for component in sorted({component_of(module) for module in modules}):
        own = one_alpha({module: each for module, each in modules.items() if component_of(module) == component})
        prefix = _PREFIXES[component]
        for module, weights in own.items():
            tensors[f"{prefix}.{path_of(module)}.lora_A.weight"] = weights.down
            tensors[f"{prefix}.{path_of(module)}.lora_B.weight"] = weights.up
        header |= {f"{prefix}.{key}": value for key, value in _config(own).items()}
    return tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(header, sort_keys=True, indent=2)}


def _config(modules: Mapping[str, Weights]) -> dict[str, Any]:
    """Return the LoraConfig fields of one component; `modules` share one alpha."""
    paths = {path_of(module).removeprefix("text_model."): weights for module, weights in modules.items()}
    rank = Counter(weights.rank for weights in paths.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": next(iter(paths.values())).alpha,
        "target_modules": sorted(paths),
        "rank_pattern": {path: weights.rank for path, weights in sorted(paths.items()) if weights.rank != rank},
        "alpha_pattern": {},
        "lora_bias": False,
        "use_dora": False,
    }
