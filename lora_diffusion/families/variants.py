"""Relatives of the known families that are no base for a text-to-image adapter here, told by their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families.folder import read_json
from lora_diffusion.families.single_file import Header, header

__all__ = ["refuse_variants"]

_PIPELINES = {
    "StableDiffusionInpaintPipeline": "an inpainting model",
    "StableDiffusionXLInpaintPipeline": "an inpainting model",
    "StableDiffusionDepth2ImgPipeline": "a depth-to-image model",
    "StableDiffusionInstructPix2PixPipeline": "a picture-editing model",
    "StableDiffusionXLInstructPix2PixPipeline": "a picture-editing model",
    "StableDiffusionUpscalePipeline": "an upscaler",
    "StableDiffusionLatentUpscalePipeline": "an upscaler",
    "StableUnCLIPPipeline": "an image-variation model",
    "StableUnCLIPImg2ImgPipeline": "an image-variation model",
    "LatentConsistencyModelPipeline": "a latent consistency model",
}
# More channels in than out: the noisy latents with a mask and a masked picture, a depth map, a picture beside them.
_CHANNELS = {9: "an inpainting model", 5: "a depth-to-image model", 7: "an upscaler", 8: "a picture-editing model"}
_LABELS = "model.diffusion_model.label_emb.0.0.weight"


def refuse_variants(path: Path) -> None:
    """Raise BaseNotFound naming what a folder or file is where it is such a relative."""
    what = _of_file(header(path)) if path.is_file() else _of_folder(path)
    if what:
        raise BaseNotFound(
            f"{path.name} is {what}, and adapters are trained on text-to-image models",
            hint="use the text-to-image model that it belongs to",
        )


def _of_folder(path: Path) -> str:
    if not (path / "model_index.json").is_file():
        return ""
    kind = _PIPELINES.get(str(read_json(path / "model_index.json").get("_class_name")), "")
    unet = path / "unet" / "config.json"
    return kind or (_of_unet(read_json(unet)) if unet.is_file() else "")


def _of_unet(unet: Mapping[str, Any]) -> str:
    taken, given = unet.get("in_channels", 4), unet.get("out_channels", 4)
    if taken != given:
        return _CHANNELS.get(taken, f"a model of {taken} channels in and {given} out")
    if unet.get("time_cond_proj_dim"):  # it is told the guidance that it was distilled with
        return "a latent consistency model"
    if unet.get("class_embed_type"):
        return "an image-variation model"
    return "the refiner of Stable Diffusion XL" if unet.get("cross_attention_dim") == 1280 else ""


def _of_file(found: Header) -> str:
    if found.channels and found.channels[0] != found.channels[1]:
        return _CHANNELS.get(found.channels[0], f"a model of {found.channels[0]} channels in, {found.channels[1]} out")
    if found.starts("conditioner.embedders.0.model.") and not found.starts("conditioner.embedders.1."):
        return "the refiner of Stable Diffusion XL"
    if "edm_mean" in found.shapes:
        return "a model of the EDM noise schedule (Playground 2.5)"
    if "model.diffusion_model.time_embed.cond_proj.weight" in found.shapes:
        return "a latent consistency model"
    if _LABELS in found.shapes and not found.starts("conditioner."):
        return "an image-variation model"
    return ""
