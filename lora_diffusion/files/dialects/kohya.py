"""The dialect of sd-scripts, A1111, ComfyUI and most published files.

`lora_unet_down_blocks_0_..._attn1_to_q.lora_down.weight | .lora_up.weight | .alpha`, prefixes `lora_unet`, `lora_te`
(Stable Diffusion 1 and 2) or `lora_te1`, `lora_te2`. Delta weight = alpha / rank * up @ down.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.families.names import canonical, component_of, dotted_or_none, naming, namings, path_of, underscored
from lora_diffusion.files.dialects import Parts
from lora_diffusion.files.dialects._common import Collector, number, one_alpha, rank_of

name = "kohya"
writable = True
structural: tuple[str, ...] = ()

_KEY = re.compile(
    r"(?P<prefix>lora_unet|lora_te1|lora_te2|lora_te)_(?P<path>.+?)"
    r"(?:(?P<joint>[._])(?P<factor>lora_down|lora_up)\.weight|\.(?P<alpha>alpha))"
)
_COMPONENTS = {
    "lora_unet": "denoiser",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
}
_ROLES = {"lora_down": "down", "lora_up": "up", None: "alpha"}
_NO_ALPHA = "alpha missing: taken as rank, as every reader does"
_DOUBLED = "prefix written twice: read once"
_UNDERSCORED = "_lora_down and _lora_up joined by an underscore: read as .lora_down and .lora_up"
_NO_TEXT_MODEL = "text encoder without text_model: added, other programs ignore such keys"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    return any(key.startswith(("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")) for key in keys)


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            found.unplaced.append(key)
            continue
        module = _module(_COMPONENTS[match["prefix"]], match["path"], match["prefix"], found)
        if match["joint"] == "_":
            found.mended[_UNDERSCORED] += 1
        found.place(key, module, _ROLES[match["factor"]], tensor)
    _add_missing_alphas(found)
    return found.parts()


def _module(component: str, path: str, prefix: str, found: Collector) -> str | None:
    doubled = f"{prefix.removeprefix('lora_')}_"
    if path.startswith(doubled):
        found.mended[_DOUBLED] += 1
        path = path.removeprefix(doubled)
    if component == "denoiser":
        split = next((each for names in namings() if (each := names.from_kohya(path))), None)
    else:
        split = dotted_or_none(path)
    if split is None:
        return None
    module = canonical(component, split)
    if module != f"{component}.{split}":
        found.mended[_NO_TEXT_MODEL] += 1
    return module


def _add_missing_alphas(found: Collector) -> None:
    for pieces in found.pieces.values():
        if "alpha" not in pieces and "down" in pieces:
            found.mended[_NO_ALPHA] += 1
            pieces["alpha"] = number(rank_of(pieces["down"]))


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    for module, weights in one_alpha(modules).items():
        key = _key(module, family)
        tensors[f"{key}.lora_down.weight"] = weights.down
        tensors[f"{key}.lora_up.weight"] = weights.up
        tensors[f"{key}.alpha"] = number(weights.alpha)
    return tensors, {}


def _key(module: str, family: str) -> str:
    names = naming(family)
    component = component_of(module)
    if component not in names.prefixes:
        raise UsageError(f"family {family} has no kohya prefix for {component}", hint="write the diffusers dialect")
    spell = names.to_kohya if component == "denoiser" else underscored
    return f"{names.prefixes[component]}_{spell(path_of(module))}"
