"""Names that we wrote no rule for: the code of diffusers and files that people published say where a tensor belongs.

`readers.py` holds rules as we understand other programs. Here nothing is ours but what is tested.
"""

import hashlib
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families.names import canonical
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from tests.families import real

INSIDE = re.compile(r"denoiser\..*\.(attentions|resnets|downsamplers|upsamplers)\..*|text_encoder.*\.layers\..*")


def shapes(family):
    """Module -> (inputs, outputs) of the real architecture, for all that sd-scripts trains."""
    found = {}
    for component, module in real.modules(family).items():
        for path, each in module.named_modules():
            name = canonical(component, path)
            if isinstance(each, nn.Linear | nn.Conv2d) and component != "vae" and INSIDE.fullmatch(name):
                found[name] = (each.weight.shape[1], each.weight.shape[0])
    return found


def by_diffusers(tensors, family):
    """Number of a tensor -> the module that diffusers puts it at, by its conversion of kohya files."""
    from diffusers.loaders import lora_conversion_utils as convert

    config = type("Config", (), {"layers_per_block": 2})
    down_and_up = {key: each for key, each in tensors.items() if not key.endswith(".alpha")}
    if family == "sdxl":
        down_and_up = convert._maybe_map_sgm_blocks_to_diffusers(down_and_up, config)
    found, _ = convert._convert_non_diffusers_lora_to_diffusers(down_and_up)
    return {int(each.flatten()[0]): _module(key) for key, each in found.items() if ".up." not in key}


def _module(key):
    """The module in a key of diffusers 0.22."""
    path = re.sub(r"\.(lora|lora_linear_layer)\.down\.weight$|\.lora_A\.weight$", "", key)
    path = re.sub(r"\.processor\.to_out_lora\.down\.weight$", ".to_out.0", path)
    path = re.sub(r"\.processor\.(to_[qkv])_lora\.down\.weight$", r".\1", path)
    path = re.sub(r"\.to_(q|k|v|out)_lora\.down\.weight$", r".\1_proj", path)
    return re.sub(r"^unet\.", "denoiser.", path)


@pytest.mark.parametrize(("family", "count"), [("sd1", 350), ("sd2", 416), ("sdxl", 1052)])
def test_diffusers_puts_every_module_of_our_kohya_files_where_it_was(family, count, tmp_path):
    modules = {}
    for number, name in enumerate(shapes(family), start=1):
        one = torch.full((1, 1), float(number))
        modules[name] = Weights(down=one, up=one, alpha=1.0)
    numbers = dict(enumerate(modules, start=1))
    write_adapter(Adapter(name="a", family=family, modules=modules), tmp_path / "a.safetensors", dtype="fp32")
    assert len(numbers) == count
    assert by_diffusers(load_file(tmp_path / "a.safetensors"), family) == numbers


# What two published files say, as hashes of what is in their headers.
CATUNDCHAT = "51ddbac6b9f95af04623d2f492bfb74bf4d36342faebaa9c3e102dff3d07e232"
"""catundchat/stable-diffusion-v1.5-lora, MIT: its 256 keys, sorted, one in a line."""
ANALOG = "46acf2903038cb2f4a6c98179e61d7fce77bbf9c6ee79d07f71dfc2ef6ecfb8f"
"""cloneofsimo/lora, example_loras/analog_svd_rank4, Apache-2.0: "index inputs outputs" of its 192 pairs, as ordered."""


def test_the_oldest_names_of_diffusers_are_those_of_a_published_file(tmp_path):
    """Such a file is made from the real architecture; that it is read back whole says that we know every name."""
    attention = [name for name in shapes("sd1") if re.search(r"\.attn[12]\.", name)]
    keys = {}
    for name in attention:
        block, projection = re.fullmatch(r"denoiser\.(.+\.attn[12])\.(to_[qkv]|to_out)(?:\.0)?", name).groups()
        for half in ("down", "up"):
            keys[f"{block}.processor.{projection}_lora.{half}.weight"] = name
    assert hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest() == CATUNDCHAT
    tensors = {key: torch.ones((2, 768) if ".down." in key else (8, 2)) for key in keys}
    save_file(tensors, tmp_path / "a.safetensors")
    assert sorted(read_adapter(tmp_path / "a.safetensors").modules) == sorted(attention)


def test_the_numbers_of_cloneofsimo_are_at_the_sizes_of_a_published_file():
    from lora_diffusion.files.dialects import cloneofsimo

    sizes = shapes("sd1")
    pairs = [("unet", n) for n in range(144)] + [("text_encoder", n) for n in range(48)]
    keys = {f"{part}:{n}:{half}": n for part, n in pairs for half in ("down", "up")}
    tensors = {key: torch.full((1, 1), float(n)) for key, n in keys.items()}
    pieces = cloneofsimo.read(tensors, {"unet": '["CrossAttention", "Attention", "GEGLU"]'}).pieces
    lines = sorted((name.partition(".")[0], int(each["down"].item()), *sizes[name]) for name, each in pieces.items())
    assert len(lines) == 192
    assert hashlib.sha256("\n".join(f"{n} {i} {o}" for _, n, i, o in lines).encode()).hexdigest() == ANALOG
