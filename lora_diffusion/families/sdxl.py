"""Stable Diffusion XL: two text encoders, and a denoiser that is told how its pictures were scaled and cropped.

The context is what both encoders say before their last layer, side by side; the pooled text is the projection of the
second. Size, crop and target size enter as six numbers (Podell et al. 2023, section 2.2). The refiner is another model.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lora_diffusion.families.base import Components, Conditioning, Configs, Size, Tokens
from lora_diffusion.families.chunks import in_chunks, joined
from lora_diffusion.families.layout import Layout, layout_of_configs, sdxl_texts
from lora_diffusion.families.names import Naming
from lora_diffusion.families.sgm import SgmNames
from lora_diffusion.families.single_file import Header
from lora_diffusion.families.stable_diffusion import UNET_TARGETS, StableDiffusion

__all__ = ["NAMING", "StableDiffusionXL"]

_SGM = SgmNames(layers=2, attention=(True, True, False))
NAMING = Naming(
    family="sdxl",
    prefixes={"denoiser": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
    to_kohya=_SGM.spell,
    from_kohya=_SGM.read,
    linear_projections=True,
)

# The last of the 12 layers of the first encoder comes after what is read: an adapter there would never learn.
_FIRST_ENCODER = tuple(f"text_encoder.*.layers.{layer}" for layer in ("[0-9]", "10"))
_BOTH_ENCODERS = (*_FIRST_ENCODER, "text_encoder_2.*")


class StableDiffusionXL(StableDiffusion):
    name: ClassVar[str] = "sdxl"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **UNET_TARGETS,
        # where content and where style are drawn (Frenkel et al. 2024, "B-LoRA", section 3)
        "content-block": ("denoiser.up_blocks.0.attentions.0.*.attn[12].to_*",),
        "style-block": ("denoiser.up_blocks.0.attentions.1.*.attn[12].to_*",),
        "text": tuple(f"{encoder}.self_attn.{each}_proj" for encoder in _BOTH_ENCODERS for each in ("[qkv]", "out")),
        "text-mlp": tuple(f"{encoder}.mlp.fc[12]" for encoder in _BOTH_ENCODERS),
    }
    folders: ClassVar[Mapping[str, str]] = {
        "denoiser": "unet",
        "text_encoder": "text_encoder",
        "text_encoder_2": "text_encoder_2",
        "vae": "vae",
    }
    pipeline_class: ClassVar[str] = "StableDiffusionXLPipeline"
    encoder_classes: ClassVar[Mapping[str, str]] = {
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
    }
    guidance: ClassVar[float] = 5.0  # what the published pipeline takes
    half_vae: ClassVar[bool] = False  # activations pass 65504 in the decoder and, for some pictures, the encoder

    def holds(self, header: Header) -> bool:
        return header.starts("conditioner.embedders.1.model.") and header.context is not None

    def described(self, index: Mapping[str, Any], unet: Mapping[str, Any]) -> bool:
        kind = str(index.get("_class_name"))  # some are saved by the pipeline that starts from a picture
        return kind.startswith("StableDiffusionXL") and unet.get("addition_embed_type") == "text_time"

    def layout(self, configs: Configs) -> Layout:
        texts = sdxl_texts(configs["text_encoder_2"]["num_hidden_layers"])
        return layout_of_configs(configs["unet"], configs["vae"], texts)

    def architecture(self, configs: Configs) -> str:
        return "stable-diffusion-xl-v1-base"

    def model_index(self, configs: Configs) -> dict[str, Any]:
        return {**super().model_index(configs), "image_encoder": [None, None], "force_zeros_for_empty_prompt": True}

    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device, tokenizer: str = "") -> Components:
        components = super().load(path, dtype=dtype, device=device, tokenizer=tokenizer)
        vae: Any = components.vae
        if vae.dtype != dtype and vae.config.use_post_quant_conv:
            # the pipeline hands the VAE latents in the dtype of the denoiser
            vae.post_quant_conv.register_forward_pre_hook(partial(_cast, dtype=vae.dtype))
        return components

    def encode_tokens(self, components: Components, tokens: Tokens) -> Conditioning:
        states = []
        pooled: Tensor | None = None
        for name, each in components.text_encoders.items():
            encoder: Any = each
            ids = tokens[name].to(components.device)
            said = encoder(in_chunks(ids, encoder.config.max_position_embeddings), output_hidden_states=True)
            states.append(joined(said.hidden_states[-2], len(ids)))
            if "text_embeds" in said:  # of chunks the first one speaks for the whole
                pooled = said.text_embeds.unflatten(0, (len(ids), -1))[:, 0]
        assert pooled is not None
        passed_on = {"time_ids": tokens["time_ids"]} if "time_ids" in tokens else {}
        return {"context": torch.cat(states, dim=-1), "pooled": pooled, **passed_on}

    def size_ids(self, original: Size, crop: Size, target: Size) -> Conditioning:
        heights_first = [each for width, height in (original, crop, target) for each in (height, width)]
        return {"time_ids": torch.tensor(heights_first, dtype=torch.float32)}

    def predict(self, components: Components, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """As in the base; without `time_ids` the pictures count as neither scaled nor cropped."""
        dtype = components.dtype
        added = {
            "text_embeds": conditioning["pooled"].to(dtype),
            "time_ids": self._time_ids(components, noisy, conditioning),
        }
        answer = components.denoiser(
            noisy.to(dtype), t, encoder_hidden_states=conditioning["context"].to(dtype), added_cond_kwargs=added
        )
        result: Tensor = answer.sample.float()
        return result

    def _time_ids(self, components: Components, noisy: Tensor, conditioning: Conditioning) -> Tensor:
        if "time_ids" in conditioning:
            return conditioning["time_ids"].to(components.device)
        vae: Any = components.vae
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        size = (noisy.shape[-1] * factor, noisy.shape[-2] * factor)
        whole = self.size_ids(size, (0, 0), size)["time_ids"]
        return whole.to(components.device).expand(len(noisy), -1)

    def pipeline(self, components: Components) -> Any:
        from diffusers import StableDiffusionXLPipeline

        return StableDiffusionXLPipeline(
            vae=components.vae,
            text_encoder=components.text_encoders["text_encoder"],
            text_encoder_2=components.text_encoders["text_encoder_2"],
            tokenizer=components.tokenizers["text_encoder"],
            tokenizer_2=components.tokenizers["text_encoder_2"],
            unet=components.denoiser,
            scheduler=components.scheduler,
            force_zeros_for_empty_prompt=False,  # an empty prompt is encoded, as a dropped caption is in training
            add_watermarker=False,
        )


def _cast(module: nn.Module, inputs: tuple[Tensor, ...], *, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(each.to(dtype) for each in inputs)
