"""Stable Diffusion 1.x: one CLIP text encoder, a UNet with cross-attention, a VAE of factor 8.

The embedded base model is of this family at a smaller size. Both prediction types are read from the scheduler.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import single_file
from lora_diffusion.families.base import Components, Conditioning, Family, Tokens
from lora_diffusion.families.folder import pretrained, quiet, read_json, sampler
from lora_diffusion.objectives import objective

__all__ = ["StableDiffusion1"]


class StableDiffusion1(Family):
    name: ClassVar[str] = "sd1"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention": ("denoiser.*.attn[12].to_[qkv]", "denoiser.*.attn[12].to_out.0"),
        "self-attention": ("denoiser.*.attn1.to_[qkv]", "denoiser.*.attn1.to_out.0"),
        "cross-attention": ("denoiser.*.attn2.to_[qkv]", "denoiser.*.attn2.to_out.0"),
        "feed-forward": ("denoiser.*.ff.net.0.proj", "denoiser.*.ff.net.2"),
        "projections": ("denoiser.*.proj_in", "denoiser.*.proj_out"),
        "conv": (
            "denoiser.*.resnets.*.conv[12]",
            "denoiser.*.resnets.*.conv_shortcut",
            "denoiser.*.downsamplers.0.conv",
            "denoiser.*.upsamplers.0.conv",
        ),
        "text": ("text_encoder.*.self_attn.[qkv]_proj", "text_encoder.*.self_attn.out_proj"),
        "text-mlp": ("text_encoder.*.mlp.fc[12]",),
    }

    def detect(self, path: Path) -> bool:
        index = path / "model_index.json"
        if path.is_file():
            return single_file.holds_sd1(path)
        if not index.is_file():
            return False
        width = read_json(path / "unet" / "config.json").get("cross_attention_dim")
        return read_json(index).get("_class_name") == "StableDiffusionPipeline" and width not in (1024, 1280, 2048)

    def geometry(self, path: Path) -> tuple[int, int]:
        if path.is_file():
            found = single_file.configs(path)
            return _geometry(found["unet"], found["vae"])
        return _geometry(read_json(path / "unet" / "config.json"), read_json(path / "vae" / "config.json"))

    def tokenizers(self, path: Path, *, named: str = "") -> dict[str, Any]:
        if path.is_file():
            vocabulary = single_file.configs(path)["text_encoder"]["vocab_size"]
        else:
            vocabulary = read_json(path / "text_encoder" / "config.json")["vocab_size"]
        return {"text_encoder": _tokenizer(path, named, vocabulary)}

    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device, tokenizer: str = "") -> Components:
        quiet()
        unet, text, vae, scheduler = (_from_file if path.is_file() else _from_folder)(path, dtype)
        resolution, bucket_step = _geometry(unet.config, vae.config)
        zero_snr = bool(scheduler.config.get("rescale_betas_zero_snr"))
        components = Components(
            path=path,
            denoiser=unet.to(device),
            text_encoders={"text_encoder": text.to(device)},
            tokenizers={"text_encoder": _tokenizer(path, tokenizer, text.config.vocab_size)},
            vae=vae.to(device),
            scheduler=scheduler,
            objective=objective(scheduler.config.prediction_type, scheduler.alphas_cumprod),
            dtype=dtype,
            device=device,
            resolution=resolution,
            bucket_step=bucket_step,
            # with no signal at the last timestep guidance over-exposes: less of it, and scaled back
            guidance=4.0 if zero_snr else 7.5,
            guidance_rescale=0.5 if zero_snr else 0.0,
        )
        components.freeze()
        return components

    def encode_images(self, components: Components, pixels: Tensor) -> Tensor:
        vae: Any = components.vae
        pixels = pixels.to(components.device, components.dtype)
        with torch.no_grad():
            latents: Tensor = vae.encode(pixels).latent_dist.mean.float() * vae.config.scaling_factor
        return latents

    def tokenize(self, components: Components, prompts: Sequence[str]) -> Tokens:
        tokenizer = components.tokenizers["text_encoder"]
        found = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        )
        return {"text_encoder": found.input_ids}

    def encode_tokens(self, components: Components, tokens: Tokens) -> Conditioning:
        ids = tokens["text_encoder"].to(components.device)
        return {"context": components.text_encoders["text_encoder"](ids).last_hidden_state}

    def predict(self, components: Components, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        context = conditioning["context"].to(components.dtype)
        answer = components.denoiser(noisy.to(components.dtype), t, encoder_hidden_states=context)
        result: Tensor = answer.sample.float()
        return result

    def pipeline(self, components: Components) -> Any:
        from diffusers import StableDiffusionPipeline

        return StableDiffusionPipeline(
            vae=components.vae,
            text_encoder=components.text_encoders["text_encoder"],
            tokenizer=components.tokenizers["text_encoder"],
            unet=components.denoiser,
            scheduler=components.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def _geometry(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return unet["sample_size"] * factor, factor * 2 ** (len(unet["block_out_channels"]) - 1)


def _from_folder(path: Path, dtype: torch.dtype) -> tuple[Any, Any, Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    scheduler = sampler(read_json(path / "scheduler" / "scheduler_config.json"))
    return (
        pretrained(UNet2DConditionModel, path / "unet", torch_dtype=dtype),
        pretrained(CLIPTextModel, path / "text_encoder", dtype=dtype),
        pretrained(AutoencoderKL, path / "vae", torch_dtype=dtype),
        scheduler,
    )


def _from_file(path: Path, dtype: torch.dtype) -> tuple[Any, Any, Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = single_file.configs(path)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(configs["unet"])
        text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
        vae = AutoencoderKL.from_config(configs["vae"])
    single_file.fill({"denoiser": unet, "text_encoder": text, "vae": vae}, path, configs, dtype)
    return unet, text, vae, sampler(configs["scheduler"])


def _tokenizer(path: Path, named: str, vocabulary: int) -> Any:
    """Return the tokenizer that was named, or the one inside or beside the weights."""
    if path.is_file() and not named:
        with single_file.tokenizer_folder(path) as inside:
            places = [*([inside] if inside else []), path.parent / "tokenizer"]
            return _first_tokenizer(path, places, vocabulary)
    return _first_tokenizer(path, [Path(named) if named else path / "tokenizer"], vocabulary)


def _first_tokenizer(path: Path, places: Sequence[Path], vocabulary: int) -> Any:
    from transformers import CLIPTokenizer

    for place in places:
        if (place / "vocab.json").is_file() or (place / "tokenizer.json").is_file():
            tokenizer = CLIPTokenizer.from_pretrained(place)
            if len(tokenizer) == vocabulary:
                return tokenizer
    raise BaseNotFound(
        f"{path} has no tokenizer of {vocabulary} entries (looked in {', '.join(str(place) for place in places)})",
        hint="set base.tokenizer (--tokenizer) to the tokenizer folder of the same kind of base model",
    )
