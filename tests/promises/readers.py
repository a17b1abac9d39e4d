"""The names by which other programs look for modules, built from the architectures, without a table of ours.

sd-scripts names what it trains: modules of the diffusers UNet for Stable Diffusion 1 and 2, of the original UNet for
XL. A1111 turns names of diffusers into those of the original checkpoint and looks these up. ComfyUI makes a table of
all spellings it takes. As these programs did in 2024; they are not run here.
"""

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache

from torch import nn

from tests.families import real

__all__ = ["BY_NAMES", "checkpoint", "comfyui", "original_unet", "sd_scripts", "webui"]

EVERY = "every name"
_FACTORS = {"lora_down.weight": "down", "lora_up.weight": "up", "lora_A.weight": "down", "lora_B.weight": "up"}
_LAYER = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")

# Depth of the transformers per level and in the middle, width per level; layers of each text encoder as stored.
_UNETS = {
    "sd1": ((1, 1, 1, 0), 1, (320, 640, 1280, 1280)),
    "sd2": ((1, 1, 1, 0), 1, (320, 640, 1280, 1280)),
    "sdxl": ((0, 2, 10), 10, (320, 640, 1280)),
}
_TEXTS = {"sd1": {"lora_te": 12}, "sd2": {"lora_te": 23}, "sdxl": {"lora_te1": 12, "lora_te2": 32}}


# The original UNet: openaimodel.py of latent-diffusion and generative-models


def _transformer(place: str, depth: int) -> Iterator[str]:
    yield from (f"{place}.proj_in", f"{place}.proj_out")
    for block in range(depth):
        inside = f"{place}.transformer_blocks.{block}"
        for attention in ("attn1", "attn2"):
            yield from (f"{inside}.{attention}.{each}" for each in ("to_q", "to_k", "to_v", "to_out.0"))
        yield from (f"{inside}.ff.net.0.proj", f"{inside}.ff.net.2")


def _resnet(place: str, *, skip: bool) -> Iterator[str]:
    yield from (f"{place}.{each}" for each in ("in_layers.2", "emb_layers.1", "out_layers.3"))
    yield from (f"{place}.skip_connection",) if skip else ()


def _outside(family: str) -> Iterator[str]:
    yield from ("input_blocks.0.0", "out.2", "time_embed.0", "time_embed.2")
    yield from ("label_emb.0.0", "label_emb.0.2") if family == "sdxl" else ()


def _blocks(family: str) -> Iterator[str]:
    depths, middle, widths = _UNETS[family]
    number, before = 1, widths[0]
    for level, depth in enumerate(depths):
        for _ in range(2):
            yield from _resnet(f"input_blocks.{number}.0", skip=widths[level] != before)
            yield from _transformer(f"input_blocks.{number}.1", depth) if depth else ()
            number, before = number + 1, widths[level]
        if level < len(depths) - 1:
            yield f"input_blocks.{number}.0.op"
            number += 1
    yield from _resnet("middle_block.0", skip=False)
    yield from _transformer("middle_block.1", middle)
    yield from _resnet("middle_block.2", skip=False)
    for number in range(3 * len(depths)):
        level = len(depths) - 1 - number // 3
        yield from _resnet(f"output_blocks.{number}.0", skip=True)
        yield from _transformer(f"output_blocks.{number}.1", depths[level]) if depths[level] else ()
        if level and number % 3 == 2:
            yield f"output_blocks.{number}.{2 if depths[level] else 1}.conv"


@cache
def original_unet(family: str) -> frozenset[str]:
    """Return the path of every linear and convolution layer of the original UNet."""
    return frozenset([*_outside(family), *_blocks(family)])


@cache
def _diffusers_unet(family: str) -> frozenset[str]:
    modules = real.modules(family)["denoiser"].named_modules()
    return frozenset(path for path, each in modules if isinstance(each, nn.Linear | nn.Conv2d))


def _spelled(paths: Collection[str]) -> set[str]:
    return {path.replace(".", "_") for path in paths}


# Every program: what it knows, and what it makes of a key


def _judged(keys: Collection[str], modules: Callable[[str], bool], leaves: Collection[str], split: str) -> str:
    """Say how many modules of a file a program finds; `split` is the side from which it parts module and leaf."""
    all_modules: set[str] = set()
    factors: dict[str, set[str | None]] = {}
    ignored: set[str] = set()
    for key in keys:
        module, leaf = _parted(key)
        all_modules.add(module)
        name = key.partition(".")[0] if split == "first" else module
        if modules(name) and leaf in leaves:
            factors.setdefault(module, set()).add(_FACTORS.get(leaf))
        elif modules(name):
            ignored.add(leaf)
    known = {module for module, found in factors.items() if {"down", "up"} <= found}
    if not known:
        return "finds nothing"
    beside = f", ignores `{'`, `'.join(sorted(ignored))}`" if ignored else ""
    return (EVERY if known == all_modules else _without(known, all_modules)) + beside


def _without(known: set[str], modules: set[str]) -> str:
    """Name the kinds of module that are never found, or count where a kind is found here and there."""
    lost, kept = ({_kind(each) for each in of} for of in (modules - known, known))
    if lost & kept or len(lost) > 6:
        return f"{len(known)} of {len(modules)} modules"
    return f"all but `{'`, `'.join(sorted(lost))}`"


def _kind(module: str) -> str:
    """Return the last word of a path, `to_out.0` as one."""
    return re.sub(r".*\.(?=\D)", "", module)


def _parted(key: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*)\.(lora_\w+(?:\.weight)?|alpha|dora_scale)", key)
    assert found is not None, key
    return found[1], found[2]


def sd_scripts(keys: Collection[str], family: str) -> str:
    """Judge keys by the modules for which sd-scripts makes networks."""
    known = sd_scripts_names(family)
    return _judged(keys, known.__contains__, ("lora_down.weight", "lora_up.weight", "alpha"), "first")


@cache
def sd_scripts_names(family: str) -> frozenset[str]:
    """Return every name that sd-scripts gives to a module of a family, with convolutions."""
    if family == "sdxl":
        unet = set(_blocks(family))
    else:
        inside = r".*\.(attentions|resnets|downsamplers|upsamplers)\..*"
        unet = {path for path in _diffusers_unet(family) if re.fullmatch(inside, path)}
    texts = {
        f"{prefix}_text_model_encoder_layers_{layer}_{each}"
        for prefix, layers in _TEXTS[family].items()
        for layer in range(layers)
        for each in _LAYER
    }
    return frozenset({f"lora_unet_{path}" for path in _spelled(unet)} | texts)


def webui(keys: Collection[str], family: str) -> str:
    """Judge keys as A1111 does: module before the first dot, turned into a name of the original checkpoint."""
    leaves = ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
    known = _webui_modules(family)
    return _judged(keys, lambda name: _as_original(name, family) in known, leaves, "first")


@cache
def _webui_modules(family: str) -> frozenset[str]:
    clip = {f"text_model_encoder_layers_{layer}_{each}" for layer in range(12) for each in _LAYER}
    each_open = ("attn", "attn_out_proj", "mlp_c_fc", "mlp_c_proj")
    layers = {"sd2": 24, "sdxl": 32}.get(family, 0)
    open_clip = {f"model_transformer_resblocks_{layer}_{each}" for layer in range(layers) for each in each_open}
    texts = {
        "sd1": {f"transformer_{each}" for each in clip},
        "sd2": open_clip,
        "sdxl": {f"0_transformer_{each}" for each in clip} | {f"1_{each}" for each in open_clip},
    }[family]
    return frozenset({f"diffusion_model_{path}" for path in _spelled(original_unet(family))} | texts)


_RESNET = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
_RESNET["conv_shortcut"] = "skip_connection"


def _as_original(name: str, family: str) -> str:
    """Blocks are counted by three, whatever the model; names that are original already stay."""
    if found := re.fullmatch(r"lora_(te\d?)_text_model_(encoder_layers_(\d+)_(.+))", name):
        return _text_as_original(found, family)
    path = name.removeprefix("lora_unet_") if name.startswith("lora_unet_") else ""
    if found := re.fullmatch(r"(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", path):
        side, block, kind, layer, rest = found.groups()
        number = int(block) * 3 + int(layer) + (side == "down")
        return f"diffusion_model_{'input' if side == 'down' else 'output'}_blocks_{number}_{_rest(kind, rest)}"
    if found := re.fullmatch(r"mid_block_(attentions|resnets)_(\d+)_(.+)", path):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"diffusion_model_middle_block_{place}_{_rest(found[1], found[3]).partition('_')[2]}"
    if found := re.fullmatch(r"down_blocks_(\d+)_downsamplers_0_conv", path):
        return f"diffusion_model_input_blocks_{3 + 3 * int(found[1])}_0_op"
    if found := re.fullmatch(r"up_blocks_(\d+)_upsamplers_0_conv", path):
        return f"diffusion_model_output_blocks_{2 + 3 * int(found[1])}_{2 if int(found[1]) else 1}_conv"
    return f"diffusion_model_{path}"


def _rest(kind: str, rest: str) -> str:
    return f"1_{rest}" if kind == "attentions" else f"0_{_RESNET.get(rest, rest)}"


def _text_as_original(found: re.Match[str], family: str) -> str:
    prefix, whole, layer, rest = found.groups()
    if (family, prefix) not in {("sd2", "te"), ("sdxl", "te2")}:
        return f"{'0_' if prefix == 'te1' else ''}transformer_text_model_{whole}"
    rest = rest.replace("mlp_fc1", "mlp_c_fc").replace("mlp_fc2", "mlp_c_proj").replace("self_attn", "attn")
    start = "1_" if prefix == "te2" else ""
    # query, key and value of OpenCLIP are one tensor
    return f"{start}model_transformer_resblocks_{layer}_{re.sub('_[qkv]_proj$', '', rest)}"


def comfyui(keys: Collection[str], family: str) -> str:
    """Judge keys by the table of spellings that ComfyUI makes."""
    leaves = (*_FACTORS, "alpha", "dora_scale")
    return _judged(keys, _comfyui_names(family).__contains__, leaves, "last")


@cache
def _comfyui_names(family: str) -> frozenset[str]:
    paths = _diffusers_unet(family)
    unet = {f"lora_unet_{path}" for path in _spelled(original_unet(family)) | _spelled(paths)}
    unet |= {f"diffusion_model.{path}" for path in original_unet(family)}
    processors = {re.sub(r"(\.processor\.to_out)\.0$", r"\1", path.replace(".to_", ".processor.to_")) for path in paths}
    texts = set()
    for prefix, layers in _TEXTS[family].items():
        second = prefix == "lora_te2"
        for layer in range(layers):
            for each in _LAYER:
                inside = f"text_model_encoder_layers_{layer}_{each}"
                texts |= {f"lora_te2_{inside}"} if second else {f"lora_te_{inside}", f"lora_te1_{inside}"}
                dotted = re.sub(r"^(self_attn|mlp)_", r"\1.", each)
                texts.add(f"text_encoder{'_2' if second else ''}.text_model.encoder.layers.{layer}.{dotted}")
    return frozenset(unet | processors | {f"unet.{path}" for path in processors} | texts)


BY_NAMES = (sd_scripts, webui, comfyui)


def checkpoint(keys: Collection[str], family: str) -> str:
    """Judge a merged file by the layers that the original programs build for a family."""
    layers = {f"model.diffusion_model.{path}" for path in original_unet(family)} | _original_texts(family)
    missing = sorted(layers - {key.removesuffix("_weight").removesuffix(".weight") for key in keys})
    places = {re.sub(r"(.*(resblocks|layers)\.\d+)\..*", r"\1", each) for each in missing}
    return f"all but `{'`, `'.join(sorted(places))}`" if missing else EVERY


_CLIP, _OPEN_CLIP = ("transformer.text_model.encoder.layers", 12), "model.transformer.resblocks"
_STORED = {
    "sd1": {"cond_stage_model": _CLIP},
    "sd2": {"cond_stage_model": (_OPEN_CLIP, 24)},
    "sdxl": {"conditioner.embedders.0": _CLIP, "conditioner.embedders.1": (_OPEN_CLIP, 32)},
}


def _original_texts(family: str) -> set[str]:
    clip = tuple(re.sub(r"^(self_attn|mlp)_", r"\1.", each) for each in _LAYER)
    open_clip = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    return {
        f"{prefix}.{stack}.{layer}.{each}"
        for prefix, (stack, layers) in _STORED[family].items()
        for layer in range(layers)
        for each in (open_clip if stack == _OPEN_CLIP else clip)
    }
