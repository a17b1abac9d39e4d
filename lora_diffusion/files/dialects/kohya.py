"""The dialect of sd-scripts, A1111, ComfyUI and most published files, with the tensors of LyCORIS.

`lora_unet_down_blocks_0_..._attn1_to_q.lora_down.weight | .lora_up.weight | .alpha`, prefixes `lora_unet`, `lora_te`
(Stable Diffusion 1 and 2) or `lora_te1`, `lora_te2`. Delta weight = alpha / rank * up @ down. LyCORIS keeps the names
before the first dot and has leaves of its own: `hada_w1_a`, `lokr_w1`, `diff`, `dora_scale`.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.families.names import canonical, component_of, dotted_or_none, naming, path_of, underscored
from lora_diffusion.files.dialects import Parts
from lora_diffusion.files.dialects._common import ADAPTER, WRAPPERS, Collector, number, one_alpha, unwrapped
from lora_diffusion.files.dialects._original import from_original
from lora_diffusion.files.roles import LYCORIS, pieces_of

name = "kohya"
writable = True
methods = ("lora", "loha", "lokr", "full")
structural: tuple[str, ...] = ()

_FACTORS = {"lora_down": "down", "lora_up": "up", "lora_mid": "mid"}
_FOREIGN = {"lora_A": "down", "lora_B": "up"}
_BIASES = dict.fromkeys((f"{leaf}.bias" for leaf in (*_FACTORS, *_FOREIGN)), "lora_bias")
_ROLES = {**_FACTORS, **_FOREIGN, **_BIASES, **{each: each for each in ("alpha", "dora_scale", "scalar", *LYCORIS)}}
_KEY = re.compile(
    rf"(?P<wrappers>{WRAPPERS}*)(?P<prefix>lora_unet|lora_te1|lora_te2|lora_te|lycoris)_(?P<path>.+?)(?P<joint>[._])"
    rf"(?P<leaf>{'|'.join(map(re.escape, sorted(_ROLES, key=len, reverse=True)))}){ADAPTER}(?P<weight>(?:\.weight)*)"
)
_COMPONENTS = {
    "lora_unet": "denoiser",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
}
_NO_ALPHA = "alpha missing: taken as rank, as every reader does"
_DOUBLED = "prefix written twice: read once"
_UNDERSCORED = "tensor name joined by an underscore (_lora_down): read as .lora_down"
_WEIGHTS = "`.weight` missing or written twice: read as once"
_NAMED = "PEFT's lora_A and lora_B under kohya module names: read as lora_down and lora_up"
_PREFIX = "prefix lycoris: read as lora_unet and lora_te"
_NO_TEXT_MODEL = "text encoder without text_model: added, other programs ignore such keys"


def matches(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    return any(
        unwrapped(key).startswith(("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lycoris_")) for key in keys
    )


def read(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    found = Collector()
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or not found.one_adapter(match["adapter"]):
            if not found.bundled(key, tensor):
                found.unplaced.append(key)
            continue
        _say(match, found)
        found.place(key, _module(match["prefix"], match["path"], found), _ROLES[match["leaf"]], tensor)
    for pieces in found.pieces.values():
        found.mended[_NO_ALPHA] += "down" in pieces and "alpha" not in pieces
    return found.parts()


def _say(match: re.Match[str], found: Collector) -> None:
    wants = ".weight" if match["leaf"] in _FACTORS or match["leaf"] in _FOREIGN else ""
    found.path(match["wrappers"])
    found.mended[_UNDERSCORED] += match["joint"] == "_"
    found.mended[_WEIGHTS] += match["weight"] != wants
    found.mended[_NAMED] += match["leaf"] in _FOREIGN


def _module(prefix: str, path: str, found: Collector) -> str | None:
    if prefix == "lycoris":
        found.mended[_PREFIX] += 1
        prefix = "lora_te" if path.startswith(("text_model_", "encoder_layers_")) else "lora_unet"
    for doubled in (f"{prefix}_", f"{prefix.removeprefix('lora_')}_", "base_model_model_"):
        if path.startswith(doubled):
            found.mended[_DOUBLED] += 1
            path = path.removeprefix(doubled)
    component = _COMPONENTS[prefix]
    split = from_original(path) if component == "denoiser" else dotted_or_none(path)
    if split is None:
        return None
    split = found.path(split)
    module = canonical(component, split)
    if module != f"{component}.{split}":
        found.mended[_NO_TEXT_MODEL] += 1
    return module


def write(modules: Mapping[str, Weights], *, family: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    leaves = {role: f"{leaf}.weight" for leaf, role in _FACTORS.items()}
    for module, weights in one_alpha(modules).items():
        key = _key(module, family)
        for role, tensor in pieces_of(weights).items():
            tensors[f"{key}.{leaves.get(role, role)}"] = tensor
        if weights.method != "full":
            tensors[f"{key}.alpha"] = number(weights.alpha)
    return tensors, {}


def _key(module: str, family: str) -> str:
    names = naming(family)
    component = component_of(module)
    if component not in names.prefixes:
        raise UsageError(f"family {family} has no kohya prefix for {component}", hint="write the diffusers dialect")
    spell = names.to_kohya if component == "denoiser" else underscored
    return f"{names.prefixes[component]}_{spell(path_of(module))}"
