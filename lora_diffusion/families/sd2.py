"""Stable Diffusion 2.x: as the first, with OpenCLIP ViT-H as its text encoder, read before its last layer.

diffusers keeps that encoder without its last layer, so what the denoiser is told is the normalised output of what is
left. There are models for 512 pixels that predict the noise and for 768 that predict v. A folder says which in its
configs; the tensors of a single file look alike.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families.base import Configs
from lora_diffusion.families.layout import Layout, layout_of_configs, sd2_texts
from lora_diffusion.families.names import Naming
from lora_diffusion.families.single_file import Header
from lora_diffusion.families.stable_diffusion import UNET_TARGETS, StableDiffusion, says

__all__ = ["NAMING", "StableDiffusion2"]

NAMING = Naming(family="sd2", prefixes={"denoiser": "lora_unet", "text_encoder": "lora_te"}, linear_projections=True)

_WIDTH = 1024
_V, _EPSILON = "v_prediction", "epsilon"
_SIDES = {_V: 96, _EPSILON: 64}  # of the latents: 768 and 512 pixels
_PARAMETERIZATION = re.compile(r"^\s*parameterization\s*:\s*[\"']?(\w+)", re.MULTILINE)
_SIDE_IN_NAME = re.compile(r"(?<!\d)(512|768)(?!\d)")


class StableDiffusion2(StableDiffusion):
    name: ClassVar[str] = "sd2"
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **UNET_TARGETS,
        "text": ("text_encoder.*.self_attn.[qkv]_proj", "text_encoder.*.self_attn.out_proj"),
        "text-mlp": ("text_encoder.*.mlp.fc[12]",),
    }

    def holds(self, header: Header) -> bool:
        if header.starts("conditioner."):
            return False
        return header.context == _WIDTH or (header.context is not None and header.starts("cond_stage_model.model."))

    def described(self, index: Mapping[str, Any], unet: Mapping[str, Any]) -> bool:
        linear = bool(unet.get("use_linear_projection"))
        return index.get("_class_name") == self.pipeline_class and (unet.get("cross_attention_dim") == _WIDTH or linear)

    def told(self, path: Path, header: Header, configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        predicts = next(_evidence(path, header), None)
        if predicts is None:
            raise BaseNotFound(
                f"{path.name} does not tell whether it predicts the noise or v, and its tensors cannot",
                hint=f"write `parameterization: v` (the models for 768 pixels) or `parameterization: eps` (512) into "
                f"{path.stem}.yaml beside it, or use its diffusers folder",
            )
        found = super().told(path, header, configs)
        unet = {**configs["unet"], "sample_size": _SIDES[predicts]}
        return {**found, "unet": unet, "scheduler": {**found["scheduler"], "prediction_type": predicts}}

    def layout(self, configs: Configs) -> Layout:
        texts = sd2_texts(configs["text_encoder"]["num_hidden_layers"])
        return layout_of_configs(configs["unet"], configs["vae"], texts)

    def architecture(self, configs: Configs) -> str:
        v = configs["scheduler"].get("prediction_type") == _V
        return "stable-diffusion-v2-768-v" if v else "stable-diffusion-v2-512"

    def model_index(self, configs: Configs) -> dict[str, Any]:
        return {**super().model_index(configs), "safety_checker": [None, None], "requires_safety_checker": False}


def _evidence(path: Path, header: Header) -> Iterator[str]:
    """Yield what is said about the prediction of a file, the most reliable first."""
    if said := says(header):
        yield said
    beside = path.with_suffix(".yaml")
    if beside.is_file():  # the config of the original program, which predicts the noise where it says nothing
        found = _PARAMETERIZATION.search(beside.read_text("utf-8", errors="replace"))
        yield _V if found and found[1].lower().startswith("v") else _EPSILON
    architecture = header.metadata.get("modelspec.architecture", "")
    for text in (architecture, path.stem):
        if found := _SIDE_IN_NAME.search(text):
            yield _V if found[1] == "768" else _EPSILON
