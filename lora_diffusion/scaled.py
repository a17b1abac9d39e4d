"""Weights in float8_e4m3fn with one scale per tensor.

A plain cast to this type leaves 3 bits of mantissa and no room below 2^-9: measured, it takes all of a delta of 1 % of
the base. A scale per tensor uses the whole range.

Layout: `<layer>.weight` in float8_e4m3fn, `<layer>.weight_scale` an fp32 scalar, weight = stored * scale, and in the
metadata `_quantization_metadata`, JSON of {"format_version", "layers": {name: {"format", ...}}}. ComfyUI's "Load
Checkpoint" reads it in Linear layers of the denoiser (its QUANTIZATION.md). diffusers, A1111 and older versions of
ComfyUI do not read the scales and would draw noise. `full_precision_matrix_mult` has the layer multiply in the working
precision, so that the loss measured here is the loss there.
"""

import json
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

__all__ = [
    "FP8",
    "METADATA",
    "SCALE",
    "holds_scaled",
    "is_scaled_layer",
    "metadata_of",
    "scale_of",
    "scaled",
    "unscaled",
]

FP8 = torch.float8_e4m3fn
SCALE = "weight_scale"
METADATA = "_quantization_metadata"
_LARGEST = torch.finfo(FP8).max  # 448
_MARKS = (f".{SCALE}", ".scale_weight", ".scaled_fp8", ".comfy_quant")


def is_scaled_layer(key: str, shape: Collection[int]) -> bool:
    """Say whether a canonical key is a weight to be scaled: a Linear inside a transformer of the denoiser.

    These hold most of the bytes, and all that is usually adapted. Time and size embeddings, which reach every block,
    convolutions, which ComfyUI reads unscaled only, and text encoders stay in 16 bits.
    """
    return key.startswith("denoiser.") and ".transformer_blocks." in key and key.endswith(".weight") and len(shape) == 2


def scale_of(tensor: Tensor) -> Tensor:
    """Return the fp32 scalar that puts the largest magnitude at the end of the range."""
    largest = torch.stack(torch.aminmax(tensor)).float().abs().max()
    return torch.where(largest > 0, largest / _LARGEST, torch.ones(()))


def scaled(tensor: Tensor, scale: Tensor) -> Tensor:
    """Return tensor / scale in float8_e4m3fn."""
    return (tensor.float() / scale).clamp_(-_LARGEST, _LARGEST).to(FP8)


def unscaled(tensor: Tensor, scale: Tensor) -> Tensor:
    """Inverse of `scaled` up to its rounding, fp32."""
    return tensor.float() * scale


def metadata_of(layers: Collection[str]) -> dict[str, str]:
    """Return what the metadata of a file says about its scaled layers, by their names in that file."""
    how = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
    return {METADATA: json.dumps({"format_version": "1.0", "layers": dict.fromkeys(sorted(layers), how)})}


def holds_scaled(keys: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Say whether a checkpoint has scales beside its weights, in this layout or an older one."""
    return METADATA in metadata or any(key.endswith(_MARKS) or key == "scaled_fp8" for key in keys)
