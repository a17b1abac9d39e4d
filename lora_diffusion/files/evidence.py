"""The family of an adapter, by what its file says and by the width of its tensors."""

from collections.abc import Mapping

from lora_diffusion.adapters.spec import Weights

__all__ = ["family_of", "width_family"]

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


def family_of(modules: Mapping[str, Weights], metadata: Mapping[str, str]) -> tuple[str, str]:
    """Return the family and the evidence for it, the strongest first; names alone mean Stable Diffusion 1."""
    if family := metadata.get("lora_diffusion.family"):
        return family, f"metadata lora_diffusion.family = {family}"
    for key in ("modelspec.architecture", "ss_base_model_version"):
        said = metadata.get(key, "")
        if family := next((each for start, each in _SAID if said.lower().startswith(start)), ""):
            return family, f"metadata {key} = {said}"
    if any(name.startswith("text_encoder_2.") for name in modules):
        return "sdxl", "modules of a second text encoder"
    if found := width_family(modules):
        return found
    return "sd1", "module names of Stable Diffusion 1, at a width of their own"


def width_family(modules: Mapping[str, Weights]) -> tuple[str, str] | None:
    """Return the family that the tensors fit by their width, or None where the width is nobody's."""
    for name, weights in modules.items():
        width = weights.shape[1] if len(weights.shape) > 1 else 0
        if name.endswith((".attn2.to_k", ".attn2.to_v")) and width in _WIDTHS:
            return _WIDTHS[width], f"text width {width} at {name}"
    for name, weights in modules.items():
        width = weights.shape[1] if len(weights.shape) > 1 else 0
        if name.startswith("text_encoder.") and name.endswith("self_attn.q_proj") and width in (768, 1024):
            return _WIDTHS[width], f"text encoder width {width} at {name}"
    return None
