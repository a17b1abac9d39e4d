"""The dialect of diffusers, in the five key styles that it has had, and the adapter header of today.

| style | UNet | text encoder |
|---|---|---|
| 0.13 | `<attn>.processor.to_q_lora.down.weight`, no prefix | none |
| 0.17 | `unet.` + the above | `text_encoder.<attn>.to_q_lora.down.weight` |
| 0.22 | `unet.<module>.lora.down.weight` | `text_encoder.<module>.lora_linear_layer.down.weight` |
| PEFT | `unet.<module>.lora_A.weight` | `text_encoder.<module>.lora_A.weight` |
| UNet saved alone | `<module>.lora_A.weight`, a header without prefixes | none |

Ours is that of PEFT with the header `lora_adapter_metadata`: diffusers builds its LoraConfig from exactly these fields,
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
from lora_diffusion.files.dialects._common import ADAPTER, WRAPPERS, Collector, json_object, number, one_alpha
from lora_diffusion.files.dialects._original import known_path
from lora_diffusion.files.dialects._peft import alpha_of, magnitude, pieces_for_peft, uses_dora

name = "diffusers"
writable = True
methods = ("lora",)
structural = ("lora_adapter_metadata",)

_PREFIXES = {"denoiser": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}
_COMPONENTS = {prefix: component for component, prefix in _PREFIXES.items()}
# Programs that load single files call the components by their places there.
_LOADERS = {
    "diffusion_model": "denoiser",
    "text_encoders.clip_l.transformer": "text_encoder",
    "text_encoders.clip_h.transformer": "text_encoder",
    "text_encoders.clip_g.transformer": "text_encoder_2",
    "clip_l.transformer": "text_encoder",
    "clip_g.transformer": "text_encoder_2",
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
}
_KEY = re.compile(
    rf"(?P<outer>(?:module\.|_orig_mod\.)*)(?:(?P<prefix>{'|'.join(_COMPONENTS)}|{'|'.join(_LOADERS)})\.)?"
    rf"(?P<inner>{WRAPPERS}*)(?P<path>.+?)"
    r"(?:\.processor)?(?P<old>\.to_(?:q|k|v|out)_lora|\.lora_linear_layer|\.lora|)"
    r"\.(?P<factor>down|up|lora_A|lora_B|lora_down|lora_up|lora_mid|lora_magnitude_vector|dora_scale|alpha|diff_b|diff)"
    rf"{ADAPTER}(?P<weight>(?:\.weight)*|\.bias)"
)
# How the paths of a denoiser begin, by which its keys are known without a prefix.
_DENOISER = re.compile(r"(?:(?:down|up)_blocks\.\d|mid_block\.|time_embedding\.|add_embedding\.|conv_in|conv_out)\b")
_ROLES = {
    "down": "down",
    "lora_A": "down",
    "up": "up",
    "lora_B": "up",
    "alpha": "alpha",
    "lora_magnitude_vector": "dora_scale",
    "lora_down": "down",
    "lora_up": "up",
    "lora_mid": "mid",
    "dora_scale": "dora_scale",
    "diff": "diff",
    "diff_b": "diff_b",
}
_SHORT = ("down", "up")
_KOHYA = ("lora_down", "lora_up", "lora_mid")
_FACTORS = (*_SHORT, *_KOHYA, "lora_A", "lora_B")
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OLDEST = "no unet. prefix (diffusers 0.13 to 0.16): added, diffusers itself loads nothing from such a file"
_ALONE = "no unet. prefix (a denoiser saved on its own by diffusers): added"
_NAMED = "lora_down and lora_up under module names of diffusers: read as lora_A and lora_B"
_TEXT_PLACE = "prefix text_encoders. or clip_ of programs that load single files: read as text_encoder."
_WEIGHTS = "`.weight` missing or written twice: read as once"
_ORIGINAL = "block names of the original layout, as under diffusion_model.: read as those of diffusers"
_TWICE = "prefix written twice: read once"
_NO_TEXT_MODEL = "text encoder without text_model: added, other programs ignore such keys"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    return any(_is_ours(key) for key in keys)


def _is_ours(key: str) -> bool:
    match = _KEY.fullmatch(key)
    return match is not None and _has_place(match) and match["factor"] != "alpha"


def _has_place(match: re.Match[str]) -> bool:
    # base_model.model. and a bare path is what PEFT writes
    alone = match["factor"] not in _SHORT and _DENOISER.match(match["path"]) and "base_model." not in match["inner"]
    return bool(match["prefix"] or ".processor." in match.string or alone)


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    for key, tensor in tensors.items():
        if found.bundled(key, tensor):
            continue
        match = _KEY.fullmatch(key)
        module = None if match is None else _module(match, found)
        role = "" if match is None else _role(match)
        found.place(key, module, role, magnitude(tensor) if role == "dora_scale" else tensor)
    _add_alphas(found, json_object(metadata.get("lora_adapter_metadata")))
    return found.parts()


def _role(match: re.Match[str]) -> str:
    bias = match["weight"] == ".bias" and match["factor"] in _FACTORS
    return "lora_bias" if bias else _ROLES[match["factor"]]


def _module(match: re.Match[str], found: Collector) -> str | None:
    if not _has_place(match) or not found.one_adapter(match["adapter"]):
        return None
    _say(match, found)
    path = found.path(match["outer"] + match["inner"] + match["path"])
    component = {**_COMPONENTS, **_LOADERS}[match["prefix"] or "unet"]
    if path.startswith(f"{match['prefix']}."):
        found.mended[_TWICE] += 1
        path = path.removeprefix(f"{match['prefix']}.")
    if match["old"].startswith(".to_"):
        projection = match["old"][1:].removesuffix("_lora")
        path += f".{_old_projection(component, projection)}"
    known = known_path(component, path)
    if known is None:
        return None
    found.mended[_ORIGINAL] += known != path or match["prefix"] == "diffusion_model"
    module = canonical(component, known)
    if module != f"{component}.{known}":
        found.mended[_NO_TEXT_MODEL] += 1
    return module


def _say(match: re.Match[str], found: Collector) -> None:
    factor, weight = match["factor"], match["weight"]
    found.mended[_OLDEST] += match["prefix"] is None and ".processor." in match.string
    found.mended[_ALONE] += match["prefix"] is None and ".processor." not in match.string
    found.mended[_WEIGHTS] += factor in _FACTORS and weight not in (".weight", ".bias")
    found.mended[_NAMED] += factor in _KOHYA
    found.mended[_TEXT_PLACE] += (match["prefix"] or "").startswith(("text_encoders", "clip_"))


def _old_projection(component: str, projection: str) -> str:
    if component != "denoiser":
        return _OLD_TEXT[projection]
    return "to_out.0" if projection == "to_out" else projection


def _add_alphas(found: Collector, header: Mapping[str, Any]) -> None:
    for module, pieces in found.pieces.items():
        if "alpha" not in pieces and "down" in pieces:
            prefix = f"{_PREFIXES[component_of(module)]}."
            config = {key.removeprefix(prefix): value for key, value in header.items() if key.startswith(prefix)}
            config = config or (dict(header) if "peft_type" in header or "lora_alpha" in header else {})
            alpha = alpha_of(config, path_of(module), pieces)
            pieces.update({} if alpha is None else {"alpha": number(alpha)})


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {}
    for component in sorted({component_of(module) for module in modules}):
        own = one_alpha({module: each for module, each in modules.items() if component_of(module) == component})
        prefix = _PREFIXES[component]
        for module, weights in own.items():
            for leaf, each in pieces_for_peft(weights).items():
                # transformers 5 finds the norms of a text encoder only with the ending that PEFT leaves out
                ending = "" if leaf.endswith(".weight") else ".weight"
                tensors[f"{prefix}.{path_of(module)}.{leaf}{ending}"] = each
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
        "use_dora": uses_dora(modules),
    }
