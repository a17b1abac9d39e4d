"""Names of modules: canonical, dotted, underscored.

A canonical name is `<component>.<module path in diffusers>`, for example
`denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q`. Paths inside a text encoder always contain
`text_model`, although transformers 5 dropped that level from CLIPTextModel: every published file has it.

The kohya dialect joins paths by underscores. Splitting them again is a matter of grammar, not of a table, so that any
number of levels and layers reads.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

__all__ = [
    "COMPONENTS",
    "Naming",
    "canonical",
    "component_of",
    "dotted",
    "dotted_or_none",
    "naming",
    "namings",
    "path_of",
    "underscored",
]

COMPONENTS = ("denoiser", "text_encoder", "text_encoder_2", "vae")

# Every path segment that itself contains an underscore or stands before one in UNets, VAEs and CLIP text encoders.
_WORDS = [
    "down_blocks",
    "up_blocks",
    "mid_block",
    "attentions",
    "transformer_blocks",
    "resnets",
    "downsamplers",
    "upsamplers",
    "attn1",
    "attn2",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "ff",
    "net",
    "proj",
    "proj_in",
    "proj_out",
    "conv",
    "conv1",
    "conv2",
    "conv_shortcut",
    "time_emb_proj",
    "conv_in",
    "conv_out",
    "conv_norm_out",
    "time_embedding",
    "add_embedding",
    "linear_1",
    "linear_2",
    "norm",
    "norm1",
    "norm2",
    "norm3",
    "group_norm",
    "encoder",
    "decoder",
    "quant_conv",
    "post_quant_conv",
    "text_model",
    "layers",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "mlp",
    "fc1",
    "fc2",
    "layer_norm1",
    "layer_norm2",
    "final_layer_norm",
    "embeddings",
    "token_embedding",
    "position_embedding",
    "text_projection",
]
_SEGMENT = "|".join(sorted(_WORDS, key=len, reverse=True)) + r"|\d+"
_PATH = re.compile(rf"(?:{_SEGMENT})(?:_(?:{_SEGMENT}))*")
_NEXT = re.compile(rf"({_SEGMENT})(?:_|$)")


def component_of(name: str) -> str:
    """Return the component of a canonical name."""
    return name.partition(".")[0]


def path_of(name: str) -> str:
    """Return the module path of a canonical name, without its component."""
    return name.partition(".")[2]


def canonical(component: str, path: str) -> str:
    """Join a component and a module path; a text encoder's path gets `text_model` where it lacks it."""
    if component.startswith("text_encoder") and not path.startswith(("text_model.", "text_projection")):
        path = f"text_model.{path}"
    return f"{component}.{path}"


def underscored(path: str) -> str:
    """Return a dotted path as the kohya dialect spells it."""
    return path.replace(".", "_")


def dotted_or_none(path: str) -> str | None:
    """Return an underscored path as dotted segments, or None where the grammar does not know a segment."""
    if not _PATH.fullmatch(path):
        return None
    segments, at = [], 0
    while at < len(path):
        found = _NEXT.match(path, at)
        if found is None:
            return None
        segments.append(found[1])
        at = found.end()
    return ".".join(segments)


def dotted(path: str) -> str:
    """Inverse of `underscored`. Raises ValueError naming a path that is none of UNet, VAE or CLIP."""
    result = dotted_or_none(path)
    if result is None:
        raise ValueError(f"{path!r} is no module path of a UNet, VAE or CLIP text encoder")
    return result


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How one family spells its modules in the kohya dialect.

    `prefixes` maps a component to its prefix; `to_kohya` and `from_kohya` convert a denoiser path between dotted and
    underscored, the latter returning None for what it does not know. `linear_projections` tells that proj_in and
    proj_out of its transformers are Linear, not 1x1 convolutions. A family with other names than Stable Diffusion 1 has
    one of these in its own file as `NAMING`.
    """

    family: str
    prefixes: Mapping[str, str]
    to_kohya: Callable[[str], str] = underscored
    from_kohya: Callable[[str], str | None] = dotted_or_none
    linear_projections: bool = False


_STABLE_DIFFUSION = Naming(family="sd1", prefixes={"denoiser": "lora_unet", "text_encoder": "lora_te"})


@cache
def _families() -> tuple[str, ...]:
    package = importlib.import_module("lora_diffusion.families")
    return tuple(sorted(found.name for found in pkgutil.iter_modules(package.__path__)))


def naming(family: str) -> Naming:
    """Return the naming of a family; families without one of their own use that of Stable Diffusion 1."""
    if family == _STABLE_DIFFUSION.family or family not in _families():
        return _STABLE_DIFFUSION
    found = getattr(importlib.import_module(f"lora_diffusion.families.{family}"), "NAMING", None)
    return found if isinstance(found, Naming) else _STABLE_DIFFUSION


def namings() -> Iterator[Naming]:
    """Yield every naming, that of Stable Diffusion first."""
    yield _STABLE_DIFFUSION
    for family in _families():
        if (found := naming(family)) is not _STABLE_DIFFUSION:
            yield found
