"""Stable Diffusion 1.x: one CLIP text encoder, a UNet with cross-attention, a VAE of factor 8.

The embedded base model is of this family at a smaller size. Both prediction types are read from the scheduler.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from lora_diffusion.families.base import Configs
from lora_diffusion.families.layout import Layout, layout_of_configs
from lora_diffusion.families.single_file import Header
from lora_diffusion.families.stable_diffusion import UNET_TARGETS, StableDiffusion

__all__ = ["StableDiffusion1"]

_OTHERS = (1024, 1280, 2048)  # context widths of Stable Diffusion 2, the XL refiner and XL


class StableDiffusion1(StableDiffusion):
    name: ClassVar[str] = "sd1"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **UNET_TARGETS,
        "text": ("text_encoder.*.self_attn.[qkv]_proj", "text_encoder.*.self_attn.out_proj"),
        "text-mlp": ("text_encoder.*.mlp.fc[12]",),
    }

    def holds(self, header: Header) -> bool:
        other_text = any(header.starts(each) for each in ("conditioner.", "cond_stage_model.model."))
        return header.context is not None and header.context not in _OTHERS and not other_text

    def described(self, index: Mapping[str, Any], unet: Mapping[str, Any]) -> bool:
        return (
            index.get("_class_name") == self.pipeline_class
            and unet.get("cross_attention_dim") not in _OTHERS
            and not unet.get("use_linear_projection")
        )

    def layout(self, configs: Configs) -> Layout:
        return layout_of_configs(configs["unet"], configs["vae"])

    def architecture(self, configs: Configs) -> str:
        return "stable-diffusion-v1"

    def model_index(self, configs: Configs) -> dict[str, Any]:
        return {**super().model_index(configs), "safety_checker": [None, None], "requires_safety_checker": False}
