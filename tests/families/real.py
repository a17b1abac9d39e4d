"""The real architectures on the meta device: every name and shape, no memory."""

import json
from functools import cache
from pathlib import Path

import torch

from lora_diffusion import families as package
from lora_diffusion.families import families

CONFIGS = Path(package.__file__).parent / "configs"


@cache
def configs(family):
    """The shipped configs by folder."""
    return {each.stem: json.loads(each.read_text()) for each in sorted((CONFIGS / family).glob("*.json"))}


@cache
def modules(family):
    """Component -> module without weights."""
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel

    found, kinds = configs(family), families()[family].encoder_classes
    with torch.device("meta"):
        encoders = {
            name: getattr(transformers, kind)(transformers.CLIPTextConfig(**found[name]))
            for name, kind in kinds.items()
        }
        unet, vae = UNet2DConditionModel.from_config(found["unet"]), AutoencoderKL.from_config(found["vae"])
    return {"denoiser": unet, **encoders, "vae": vae}


def tensors(family):
    """Canonical key -> tensor of the whole base model."""
    from lora_diffusion.families.names import canonical

    return {
        canonical(component, key): tensor
        for component, module in modules(family).items()
        for key, tensor in module.state_dict().items()
    }


def layout(family):
    """The layout of the real single file."""
    return families()[family].layout(configs(family))


def original(family):
    """Key -> tensor of the single file that our layout writes for it."""
    ours, found = tensors(family), layout(family)
    names = dict.fromkeys(found.original(key) for key in ours)
    return {name: found.joined(name, [ours[key] for key in found.keys(name)]) for name in names}
