"""What the families of Stable Diffusion share: a UNet with cross-attention, CLIP text encoders, a VAE.

Each of them is a file of its own, with what it does otherwise.
"""

import logging
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lora_diffusion.families import single_file
from lora_diffusion.families.base import Components, Conditioning, Configs, Family, Tokens
from lora_diffusion.families.chunks import chunks_needed, chunks_of, in_chunks, joined, tokens_of, whole_chunks
from lora_diffusion.families.folder import pretrained, quiet, read_json, sampler
from lora_diffusion.families.single_file import Header
from lora_diffusion.families.tokenizer import tokenizer
from lora_diffusion.objectives import objective

__all__ = ["UNET_TARGETS", "StableDiffusion", "says"]

UNET_TARGETS: Mapping[str, tuple[str, ...]] = {
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
}

_DISTILLED = re.compile(r"turbo|lightning|(?<![a-z])(?:hyper|lcm|dmd2?)(?![a-z])", re.IGNORECASE)

_EMBEDS = {"context": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
"""What the pipelines call conditioning; what is not to be drawn has `negative_` before it."""

_log = logging.getLogger("lora_diffusion")


class StableDiffusion(Family):
    """A family of Stable Diffusion. Subclasses say what differs."""

    folders: ClassVar[Mapping[str, str]] = {"denoiser": "unet", "text_encoder": "text_encoder", "vae": "vae"}
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    encoder_classes: ClassVar[Mapping[str, str]] = {"text_encoder": "CLIPTextModel"}
    """Text encoder -> its class in transformers."""
    guidance: ClassVar[float] = 7.5
    half_vae: ClassVar[bool] = True
    """Whether the VAE stays finite in fp16."""

    @abstractmethod
    def holds(self, header: Header) -> bool:
        """Say whether a single file is of this family."""

    @abstractmethod
    def described(self, index: Mapping[str, Any], unet: Mapping[str, Any]) -> bool:
        """Say whether a folder with this model_index.json and UNet config is of this family."""

    def told(self, path: Path, header: Header, configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the configs of a file of others, mended by what the file says elsewhere."""
        said = {"prediction_type": says(header) or configs["scheduler"]["prediction_type"]}
        if "ztsnr" in header.shapes:
            said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return {**configs, "scheduler": {**configs["scheduler"], **said}}

    def detect(self, path: Path) -> bool:
        if path.is_file():
            return self.holds(single_file.header(path))
        index = path / "model_index.json"
        if not index.is_file() or not (path / "unet" / "config.json").is_file():
            return False
        return self.described(read_json(index), read_json(path / "unet" / "config.json"))

    def configs(self, path: Path) -> Configs:
        if not path.is_file():
            files = {folder: path / folder / "config.json" for folder in self.folders.values()}
            files["scheduler"] = path / "scheduler" / "scheduler_config.json"
            return {folder: read_json(file) for folder, file in files.items()}
        header = single_file.header(path)
        found = single_file.configs(header, self.name)
        return found if single_file.CONFIGS_KEY in header.metadata else self.told(path, header, found)

    def model_index(self, configs: Configs) -> dict[str, Any]:
        encoders = {name: ["transformers", kind] for name, kind in self.encoder_classes.items()}
        tokenizers = {_tokenizer_of(name): ["transformers", "CLIPTokenizer"] for name in self.encoder_classes}
        return {
            "_class_name": self.pipeline_class,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **encoders,
            **tokenizers,
            "scheduler": ["diffusers", configs["scheduler"].get("_class_name", "DDIMScheduler")],
            "feature_extractor": [None, None],
        }

    def geometry(self, path: Path) -> tuple[int, int]:
        found = self.configs(path)
        return _geometry(found["unet"], found["vae"])

    def tokenizers(self, path: Path, *, named: str = "") -> dict[str, Any]:
        found = self.configs(path)
        return {
            name: tokenizer(path, named, found[self.folders[name]]["vocab_size"], folder=_tokenizer_of(name))
            for name in self.encoder_classes
        }

    def load(self, path: Path, *, dtype: torch.dtype, device: torch.device, tokenizer: str = "") -> Components:
        quiet()
        found = self.configs(path)
        dtypes = dict.fromkeys(self.folders, dtype)
        if dtype == torch.float16 and not self.half_vae:
            dtypes["vae"] = torch.float32
        modules = (self._from_file if path.is_file() else self._from_folder)(path, found, dtypes)
        scheduler = sampler(dict(found["scheduler"]))
        resolution, bucket_step = _geometry(modules["denoiser"].config, modules["vae"].config)
        guidance, rescale = self._guidance(path, scheduler)
        components = Components(
            path=path,
            denoiser=modules["denoiser"].to(device),
            text_encoders={name: modules[name].to(device) for name in self.encoder_classes},
            tokenizers=self.tokenizers(path, named=tokenizer),
            vae=modules["vae"].to(device),
            scheduler=scheduler,
            objective=objective(scheduler.config.prediction_type, scheduler.alphas_cumprod),
            dtype=dtype,
            device=device,
            resolution=resolution,
            bucket_step=bucket_step,
            guidance=guidance,
            guidance_rescale=rescale,
        )
        components.freeze()
        return components

    def _guidance(self, path: Path, scheduler: Any) -> tuple[float, float]:
        if found := _DISTILLED.search(path.stem if path.is_file() else path.name):
            _log.warning(
                "%s is named %s, so it draws in few steps without guidance; training on it loosens that: better train "
                "on the base model that it was made from and use the adapter here",
                path.name,
                found[0].lower(),
            )
            return 1.0, 0.0
        # with no signal at the last timestep guidance over-exposes: less of it, and scaled back
        return (4.0, 0.5) if scheduler.config.get("rescale_betas_zero_snr") else (self.guidance, 0.0)

    def _from_folder(self, path: Path, configs: Configs, dtypes: Mapping[str, torch.dtype]) -> dict[str, Any]:
        import transformers
        from diffusers import AutoencoderKL, UNet2DConditionModel

        encoders = {
            name: pretrained(getattr(transformers, kind), path / self.folders[name], dtype=dtypes[name])
            for name, kind in self.encoder_classes.items()
        }
        return {
            "denoiser": pretrained(UNet2DConditionModel, path / "unet", torch_dtype=dtypes["denoiser"]),
            **encoders,
            "vae": pretrained(AutoencoderKL, path / "vae", torch_dtype=dtypes["vae"]),
        }

    def _from_file(self, path: Path, configs: Configs, dtypes: Mapping[str, torch.dtype]) -> dict[str, Any]:
        import transformers
        from diffusers import AutoencoderKL, UNet2DConditionModel

        with torch.device("meta"):
            encoders = {
                name: getattr(transformers, kind)(transformers.CLIPTextConfig(**configs[self.folders[name]]))
                for name, kind in self.encoder_classes.items()
            }
            modules = {
                "denoiser": UNet2DConditionModel.from_config(configs["unet"]),
                **encoders,
                "vae": AutoencoderKL.from_config(configs["vae"]),
            }
        single_file.fill(modules, path, self.layout(configs), dtypes)
        return modules

    def encode_images(self, components: Components, pixels: Tensor) -> Tensor:
        vae: Any = components.vae
        pixels = pixels.to(components.device, vae.dtype)
        with torch.no_grad():
            latents: Tensor = vae.encode(pixels).latent_dist.mean.float() * vae.config.scaling_factor
        return latents

    def tokenize(self, components: Components, prompts: Sequence[str], *, chunks: int = 1) -> Tokens:
        return {name: tokens_of(each, prompts, chunks) for name, each in components.tokenizers.items()}

    def chunks(self, components: Components, prompts: Sequence[str], *, tokens: int) -> int:
        return max(
            min(chunks_needed(each, prompts), whole_chunks(each, tokens)) for each in components.tokenizers.values()
        )

    def encode_tokens(self, components: Components, tokens: Tokens) -> Conditioning:
        encoder: Any = components.text_encoders["text_encoder"]
        ids = tokens["text_encoder"].to(components.device)
        said = encoder(in_chunks(ids, encoder.config.max_position_embeddings))
        return {"context": joined(said.last_hidden_state, len(ids))}

    def prompt_arguments(self, components: Components, prompts: Sequence[str], negative: str) -> dict[str, Any]:
        chunks = max(chunks_of(each, [*prompts, negative]) for each in components.tokenizers.values())
        if chunks == 1:
            return super().prompt_arguments(components, prompts, negative)
        with torch.no_grad():
            meant = self.encode_tokens(components, self.tokenize(components, prompts, chunks=chunks))
            shunned = self.encode_tokens(components, self.tokenize(components, [negative], chunks=chunks))
        shunned = {key: each.expand(len(prompts), *each.shape[1:]) for key, each in shunned.items()}
        return {
            f"{start}{_EMBEDS[key]}": each
            for start, said in (("", meant), ("negative_", shunned))
            for key, each in said.items()
        }

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


def says(header: Header) -> str:
    """Return the prediction type that a file states in its metadata or by a marker key, or nothing."""
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    if "v_pred" in header.shapes or said.startswith("v"):
        return "v_prediction"
    return "epsilon" if said else ""


def _geometry(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return unet["sample_size"] * factor, factor * 2 ** (len(unet["block_out_channels"]) - 1)


def _tokenizer_of(encoder: str) -> str:
    return encoder.replace("text_encoder", "tokenizer")
