"""Parts of a base model in words, and what the named presets do with them.

`unet`, `unet.down`, `unet.mid`, `unet.up`, a level (`unet.up.1`), a layer of it (`unet.up.0.1`), a kind of module
(`unet.attn2`, `unet.up.1.ff`); `text` and `text2`, a layer (`text.11`), a kind (`text.mlp`). `self` is attn1 and
`cross` attn2. Levels count as in diffusers: `unet.down.0` and the last `unet.up` work at full resolution.
"""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

from lora_diffusion.errors import UsageError

__all__ = [
    "BLOCKS",
    "PRESETS",
    "Preset",
    "PresetBars",
    "block_of",
    "holds",
    "levels_of",
    "nearest",
    "preset_bars",
    "preset_names",
    "require_block",
    "require_preset",
]

_COMPONENTS = {"unet": "denoiser", "text": "text_encoder", "text2": "text_encoder_2"}
_KINDS = {
    "attn": r"(?:.*\.)?attn[12]\..*",
    "attn1": r"(?:.*\.)?attn1\..*",
    "attn2": r"(?:.*\.)?attn2\..*",
    "self": r"(?:.*\.)?attn1\..*",
    "cross": r"(?:.*\.)?attn2\..*",
    "ff": r"(?:.*\.)?ff\..*",
    "proj": r"(?:.*\.)?proj_(?:in|out)",
    "conv": r"(?:.*\.)?conv(?:1|2|_shortcut|_in|_out)?",
    "time": r"(?:.*\.)?time_emb.*",
}
_TEXT_KINDS = {"attn": r"(?:.*\.)?self_attn\..*", "mlp": r"(?:.*\.)?mlp\..*"}
_UNET = re.compile(
    rf"unet(?:\.(?:(?P<mid>mid)|(?P<side>down|up)(?:\.(?P<level>\d+)(?:\.(?P<layer>\d+))?)?))?"
    rf"(?:\.(?P<kind>{'|'.join(_KINDS)}))?"
)
_TEXT = re.compile(rf"(?P<text>text2?)(?:\.(?P<layer>\d+))?(?:\.(?P<kind>{'|'.join(_TEXT_KINDS)}))?")

BLOCKS = (
    "unet", "unet.down", "unet.down.0", "unet.down.0.1", "unet.mid", "unet.up", "unet.up.1", "unet.up.1.0",
    "unet.attn1", "unet.attn2", "unet.self", "unet.cross", "unet.attn", "unet.ff", "unet.proj", "unet.conv",
    "unet.time", "unet.up.1.attn2", "text", "text.11", "text.attn", "text.mlp", "text2",
)  # fmt: skip
"""One example of every form that a block's name takes, for help and errors."""


def require_block(name: str) -> str:
    """Return the name of a block. Raises UsageError with the forms there are and the nearest one."""
    if _pattern(name) is None:
        raise UsageError(
            f"there is no block {name!r}",
            hint=f"{nearest(name, BLOCKS)}blocks are {', '.join(BLOCKS)}; other numbers are other levels and layers",
        )
    return name


def nearest(name: str, known: Collection[str]) -> str:
    """Return "did you mean ...? " with the most similar of the known names, or nothing."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}? " if found else ""


def holds(block: str, module: str) -> bool:
    """Say whether a canonical module name lies in a block. Raises UsageError for a block that does not exist."""
    found = _pattern(require_block(block))
    return found is not None and found.fullmatch(module) is not None


@cache
def _pattern(name: str) -> re.Pattern[str] | None:
    if found := _UNET.fullmatch(name):
        kind = _KINDS.get(found["kind"] or "", ".*")
        return re.compile(rf"denoiser\.{_place(found)}{kind}")
    if found := _TEXT.fullmatch(name):
        kind = _TEXT_KINDS.get(found["kind"] or "", ".*")
        layer = rf"(?:.*\.)?layers\.{found['layer']}\." if found["layer"] else ""
        return re.compile(rf"{_COMPONENTS[found['text']]}\.{layer}{kind}")
    return None


def _place(found: re.Match[str]) -> str:
    if found["mid"]:
        return r"mid_block\."
    if not found["side"]:
        return ""
    place = rf"{found['side']}_blocks\."
    place += rf"{found['level']}\." if found["level"] else ""
    return place + (rf"(?:attentions|resnets)\.{found['layer']}\." if found["layer"] else "")


def block_of(module: str) -> str:
    """Return the block that a module is counted under in reports: a level, the middle, a text encoder, or `unet`."""
    if found := re.match(r"denoiser\.(down|up)_blocks\.(\d+)\.", module):
        return f"unet.{found[1]}.{found[2]}"
    if module.startswith("denoiser.mid_block."):
        return "unet.mid"
    component = module.partition(".")[0]
    return next((name for name, each in _COMPONENTS.items() if each == component), component)


def levels_of(modules: Collection[str]) -> int:
    """Return how many levels a UNet has by the module names of an adapter, at least 1."""
    found = (re.match(r"denoiser\.(?:down|up)_blocks\.(\d+)\.", module) for module in modules)
    return 1 + max((int(each[1]) for each in found if each), default=0)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a name multiplies: `factor(module, family, levels)` times the weight, in every module.

    `says` is which blocks that means, `plain` what a picture keeps of the style then.
    """

    says: str
    plain: str
    factor: Callable[[str, str, int], float]


def _depth(module: str, levels: int) -> int | None:
    """0 for the level at full resolution, levels - 1 for the coarsest; None outside the UNet's levels."""
    if module.startswith("denoiser.mid_block."):
        return levels - 1
    found = re.match(r"denoiser\.(down|up)_blocks\.(\d+)\.", module)
    if found is None:
        return None
    return int(found[2]) if found[1] == "down" else levels - 1 - int(found[2])


def _in(module: str, *blocks: str) -> bool:
    return any(holds(block, module) for block in blocks)


def _style(module: str, family: str, levels: int) -> float:
    if family == "sdxl":
        return float(_in(module, "unet.up.0.1"))
    depth = _depth(module, levels)
    return float(depth is not None and depth < levels / 2)


def _composition(module: str, family: str, levels: int) -> float:
    if family == "sdxl":
        return float(_in(module, "unet.up.0.0", "unet.down.2.1"))
    depth = _depth(module, levels)
    return float(depth is not None and depth >= levels / 2)


def _colours(module: str, family: str, levels: int) -> float:
    if family == "sdxl":
        return float(_in(module, "unet.up.1", "unet.up.2", "unet.down.0"))
    return float(_depth(module, levels) == 0)


def _loose(module: str, family: str, levels: int) -> float:
    return 0.5 if _composition(module, family, levels) else 1.0


def _text(module: str, family: str, levels: int) -> float:
    return float(_in(module, "text", "text2"))


PRESETS: Mapping[str, Preset] = {
    "style-only": Preset(
        says="sd1, sd2: x1 the finer half of the UNet's levels, x0 the rest. sdxl: x1 unet.up.0.1, x0 the rest",
        plain="The look alone: brushwork, texture and colour, while the prompt decides what is where.",
        factor=_style,
    ),
    "composition-only": Preset(
        says="sd1, sd2: x1 the coarser half of the UNet's levels and unet.mid, x0 the rest. "
        "sdxl: x1 unet.up.0.0 and unet.down.2.1, x0 the rest",
        plain="The layout alone: how shapes are drawn and arranged, in the base model's own colours and textures.",
        factor=_composition,
    ),
    "colours": Preset(
        says="sd1, sd2: x1 the level at full resolution, x0 the rest. "
        "sdxl: x1 unet.up.1, unet.up.2 and unet.down.0, x0 the rest",
        plain="Colours and the finest texture, without the way in which shapes are drawn.",
        factor=_colours,
    ),
    "loose-composition": Preset(
        says="x0.5 what composition-only keeps, x1 the rest",
        plain="The whole look with half of its hold on the layout, so that new scenes are easier to get.",
        factor=_loose,
    ),
    "no-text": Preset(
        says="x0 the text encoders, x1 the rest",
        plain="The whole look, while words keep the meaning that they have without the style.",
        factor=lambda *at: 1.0 - _text(*at),
    ),
    "text-only": Preset(
        says="x1 the text encoders, x0 the rest",
        plain="Only what the style has taught words to mean; it draws nothing by itself.",
        factor=_text,
    ),
}
"""Presets by name. Coarse levels decide shapes and layout, fine ones colour and texture (P+, Voynov et al. 2023, on
Stable Diffusion 1); on SDXL unet.up.0.0 carries the content and unet.up.0.1 the style (B-LoRA, Frenkel et al. 2024),
unet.down.2.1 the layout (InstantStyle, Wang et al. 2024). They are starting points: what an adapter has learnt where
differs from one to the next."""


@dataclass(frozen=True, kw_only=True)
class PresetBars:
    """A preset to be drawn: what it does in one sentence, and the factor of each block in the model's order."""

    name: str
    plain: str
    factors: Mapping[str, float]


# Levels of the UNet and its text encoders; all families have 2 layers in a level on the way down and 3 on the way up.
_SHAPES = {"sd1": (4, ("text",)), "sd2": (4, ("text",)), "sdxl": (3, ("text", "text2"))}


def preset_bars(name: str, *, family: str) -> PresetBars:
    """Return what a preset does to each layer of a family's UNet and to its text encoders.

    Raises UsageError for a preset or family that does not exist.
    """
    require_preset(name)
    if family not in _SHAPES:
        raise UsageError(f"there are no blocks of the family {family!r}", hint=f"families are {', '.join(_SHAPES)}")
    levels, texts = _SHAPES[family]
    blocks = [*(f"unet.down.{level}.{layer}" for level in range(levels) for layer in range(2)), "unet.mid"]
    blocks += [*(f"unet.up.{level}.{layer}" for level in range(levels) for layer in range(3)), *texts]
    factor = PRESETS[name].factor
    return PresetBars(
        name=name,
        plain=PRESETS[name].plain,
        factors={block: factor(_inside(block), family, levels) for block in blocks},
    )


def preset_names() -> tuple[str, ...]:
    """Return the presets there are."""
    return tuple(PRESETS)


def _inside(block: str) -> str:
    """Return the name of a module that a block holds in every family."""
    component, *place = block.split(".")
    if component != "unet":
        return f"{_COMPONENTS[component]}.text_model.encoder.layers.0.mlp.fc1"
    if place == ["mid"]:
        return "denoiser.mid_block.resnets.0.conv1"
    side, level, layer = place
    return f"denoiser.{side}_blocks.{level}.resnets.{layer}.conv1"


def require_preset(name: str) -> str:
    """Return the name of a preset. Raises UsageError with the presets there are and the nearest one."""
    if name not in PRESETS:
        raise UsageError(
            f"there is no preset {name!r}", hint=f"{nearest(name, PRESETS)}presets are {', '.join(PRESETS)}"
        )
    return name
