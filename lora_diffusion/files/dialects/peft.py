"""The dialect of PEFT: `base_model.model.<module>.lora_A.weight`, everything else in adapter_config.json.

A folder of PEFT holds one component. A single file of ours carries the configuration in its metadata under
`adapter_config`; with two components, or the second text encoder alone, their names stand before the module paths, in
the keys and in the configuration.

Text-encoder paths keep `text_model`, as in every dialect: PEFT loads them into classes that have that level, and into
the flattened CLIPTextModel of transformers 5 with `key_mapping={"text_model.": ""}`.
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
from lora_diffusion.files.dialects._common import ADAPTER, Collector, json_object, number, unwrapped
from lora_diffusion.files.dialects._original import known_path
from lora_diffusion.files.dialects._peft import alpha_of, magnitude, pieces_for_peft, uses_dora
from lora_diffusion.files.folder import CONFIG_KEY

name = "peft"
writable = True
methods = ("lora",)
structural = (CONFIG_KEY,)

_PREFIXES = {"denoiser": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}
_COMPONENTS = {prefix: component for component, prefix in _PREFIXES.items()}
_KEY = re.compile(
    r"base_model\.model\.(?:(?P<prefix>unet|text_encoder|text_encoder_2)\.)?(?P<path>.+?)"
    rf"\.(?P<factor>lora_A|lora_B|lora_magnitude_vector){ADAPTER}(?P<weight>(?:\.weight)*|\.bias)"
)
_ROLES = {"lora_A": "down", "lora_B": "up", "lora_magnitude_vector": "dora_scale"}
_WEIGHTS = "`.weight` missing or written twice: read as once"
_TEXT = ("text_model.", "encoder.layers.", "text_projection")
_NO_CONFIG = "no adapter_config.json: alpha taken as rank"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    bare = (unwrapped(key) for key in keys if key.startswith("base_model.model."))
    return any(not key.startswith(("lora_", "lycoris_")) for key in bare)  # those are of kohya


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    config = json_object(metadata.get(CONFIG_KEY))
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or not found.one_adapter(match["adapter"]):
            found.unplaced.append(key)
            continue
        role = "lora_bias" if match["weight"] == ".bias" else _ROLES[match["factor"]]
        found.mended[_WEIGHTS] += role in ("down", "up") and match["weight"] != ".weight"
        found.place(key, _module(match, found), role, magnitude(tensor) if role == "dora_scale" else tensor)
    for module, pieces in found.pieces.items():
        if "down" in pieces:
            own = config if "peft_type" in config else config.get(_PREFIXES[component_of(module)])
            found.mended[_NO_CONFIG] += own is None
            alpha = alpha_of(own, path_of(module), pieces)
            pieces.update({} if alpha is None else {"alpha": number(alpha)})
    return found.parts()


def _module(match: re.Match[str], found: Collector) -> str | None:
    path = found.path(match["path"])
    component = _COMPONENTS[match["prefix"] or ("text_encoder" if path.startswith(_TEXT) else "unet")]
    known = known_path(component, path)
    return None if known is None else canonical(component, known)


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    components = sorted({component_of(module) for module in modules})
    named = len(components) > 1 or components == ["text_encoder_2"]  # alone it would read as the first
    tensors: dict[str, Tensor] = {}
    configs: dict[str, Any] = {}
    for component in components:
        own = {path_of(module): each for module, each in modules.items() if component_of(module) == component}
        prefix = f"{_PREFIXES[component]}." if named else ""
        for path, weights in own.items():
            start = f"base_model.model.{prefix}{path}"
            tensors |= {f"{start}.{leaf}": each for leaf, each in pieces_for_peft(weights).items()}
        configs[_PREFIXES[component]] = _config(own)
    config = configs if named else next(iter(configs.values()), {"peft_type": "LORA"})
    return tensors, {"format": "pt", CONFIG_KEY: json.dumps(config, sort_keys=True)}


def _config(modules: Mapping[str, Weights]) -> dict[str, Any]:
    """Return a LoraConfig. Its names are without `text_model`: they match modules with and without that level."""
    paths = {path.removeprefix("text_model."): weights for path, weights in sorted(modules.items())}
    rank = Counter(weights.rank for weights in paths.values()).most_common(1)[0][0]
    alpha = Counter(weights.alpha for weights in paths.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": list(paths),
        "rank_pattern": {path: each.rank for path, each in paths.items() if each.rank != rank},
        "alpha_pattern": {path: each.alpha for path, each in paths.items() if each.alpha != alpha},
        "use_dora": uses_dora(modules),
        "use_rslora": False,
    }
