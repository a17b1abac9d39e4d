"""Casting an adapter once, without losing its small numbers."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, VerificationFailed

__all__ = ["PRECISIONS", "balanced", "cast", "cast_all", "precision_of"]

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

# fp16 keeps its 11 bits between 2^-14 and 2^16; factors whose largest value lies outside lose bits or overflow.
_SMALL, _LARGE = 2.0**-8, 2.0**14


def precision_of(name: str) -> torch.dtype:
    """Return a dtype by the name that users write. Raises UsageError listing the names."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def cast(tensor: Tensor, dtype: torch.dtype | None, *, name: str) -> Tensor:
    """Return a floating tensor in `dtype`; integers and None leave it. Raises VerificationFailed where it overflows."""
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    result = tensor.to(dtype)
    if not torch.isfinite(result).all() and torch.isfinite(tensor).all():
        raise VerificationFailed(
            f"{name} has values up to {float(tensor.float().abs().max()):.3g}, beyond the largest number of {dtype}",
            hint="use bf16 or fp32",
        )
    return result


def cast_all(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Cast the factors of a file; 0-D tensors are alphas and keep all their bits."""
    return {name: cast(each, dtype if each.ndim else None, name=name) for name, each in tensors.items()}


def balanced(modules: Mapping[str, Weights], dtype: torch.dtype | None) -> dict[str, Weights]:
    """Move a power of two between the factors of modules that fp16 would otherwise cut; each delta stays exact."""
    if dtype != torch.float16:
        return dict(modules)
    return {name: _balance(weights) for name, weights in modules.items()}


def _balance(weights: Weights) -> Weights:
    if weights.method != "lora":
        return weights
    up, down = (float(each.float().abs().max()) for each in (weights.up, weights.down))
    if not up or not down or (min(up, down) >= _SMALL and max(up, down) <= _LARGE):
        return weights
    by = 2.0 ** round((math.log2(down) - math.log2(up)) / 2)
    return replace(weights, up=weights.up.float() * by, down=weights.down.float() / by)
