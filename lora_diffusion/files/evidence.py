"""The family of an adapter, by what its file says and by the width of its tensors."""

import re
from collections.abc import Collection, Mapping

from lora_diffusion.adapters.spec import Weights

__all__ = ["contradiction", "family_of", "width_family"]

# modelspec.architecture and ss_base_model_version, by how they begin; the longer ones first.
_SAID = (
    ("stable-diffusion-xl", "sdxl"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-v2", "sd2"),
    ("sd_v2", "sd2"),
    ("stable-diffusion-v1", "sd1"),
    ("sd_v1", "sd1"),
    ("stable-diffusion-3", "sd3"),
    ("sd3", "sd3"),
    ("flux", "flux"),
)
# Inputs of cross-attention keys are as wide as the text embedding: one CLIP-L, OpenCLIP-H, both of SDXL, its refiner.
_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
# Inputs of the layers of a text encoder: its width, and four times as much after fc1.
_TEXT_WIDTHS = {
    **dict.fromkeys((("q_proj", 768), ("k_proj", 768), ("v_proj", 768), ("fc1", 768), ("fc2", 3072)), "sd1"),
    **dict.fromkeys((("q_proj", 1024), ("k_proj", 1024), ("v_proj", 1024), ("fc1", 1024), ("fc2", 4096)), "sd2"),
}
_STABLE_DIFFUSION = ("sd1", "sd2", "sdxl")
# Only in XL several transformers stand behind each other, 2 and 10 of them.
_DEEP = re.compile(r"denoiser\..*\.transformer_blocks\.[1-9]")


def family_of(
    modules: Mapping[str, Weights], metadata: Mapping[str, str], keys: Collection[str] = ()
) -> tuple[str, str]:
    """Return the family and the evidence for it, the strongest first; names alone mean Stable Diffusion 1.

    `keys` are the names of tensors as the file has them: some prefixes tell what canonical names do not.
    """
    if family := metadata.get("lora_diffusion.family"):
        return family, f"metadata lora_diffusion.family = {family}"
    for key in ("modelspec.architecture", "ss_base_model_version"):
        said = metadata.get(key, "")
        if family := next((each for start, each in _SAID if said.lower().startswith(start)), ""):
            return family, f"metadata {key} = {said}"
    found = _named_family(modules, keys) or width_family(modules)
    return found or ("sd1", "module names of Stable Diffusion 1, at a width of their own")


def contradiction(modules: Mapping[str, Weights], keys: Collection[str], family: str) -> tuple[str, str] | None:
    """Return the family that names or widths prove, and how, where it is another than `family`; None otherwise."""
    found = _named_family(modules, keys) or _context_family(modules)
    if found is None and family != "sdxl":  # the first encoder of XL is that of Stable Diffusion 1
        found = _text_family(modules)
    if found is None and family not in _STABLE_DIFFUSION:
        first = next((name for name in modules if name.startswith("denoiser.")), "")
        found = ("Stable Diffusion", f"the UNet module {first}") if first else None
    return None if found is None or found[0] == family else found


def _named_family(modules: Mapping[str, Weights], keys: Collection[str]) -> tuple[str, str] | None:
    if any(name.startswith("text_encoder_2.") for name in modules):
        return "sdxl", "modules of a second text encoder"
    if deep := next((name for name in modules if _DEEP.match(name)), ""):
        return "sdxl", f"the second transformer at {deep}"
    # diffusers 0.42 writes the only encoder of Stable Diffusion 1 and 2 as the first of two; its denoiser tells better
    if any(key.startswith("lora_te1_") for key in keys) and _context_family(modules) is None:
        return "sdxl", "prefix lora_te1 of two text encoders"
    return None


def width_family(modules: Mapping[str, Weights]) -> tuple[str, str] | None:
    """Return the family that the tensors fit by their width, or None where the width is nobody's."""
    return _context_family(modules) or _text_family(modules)


def _context_family(modules: Mapping[str, Weights]) -> tuple[str, str] | None:
    for name, weights in modules.items():
        if name.endswith((".attn2.to_k", ".attn2.to_v")) and _width(weights) in _WIDTHS:
            return _WIDTHS[_width(weights)], f"text width {_width(weights)} at {name}"
    return None


def _text_family(modules: Mapping[str, Weights]) -> tuple[str, str] | None:
    for name, weights in modules.items():
        place = name.rpartition(".")[2], _width(weights)
        if name.startswith("text_encoder.") and place in _TEXT_WIDTHS:
            return _TEXT_WIDTHS[place], f"text encoder width {place[1]} at {name}"
    return None


def _width(weights: Weights) -> int:
    return weights.shape[1] if len(weights.shape) > 1 else 0
