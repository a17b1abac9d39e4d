"""Casting an adapter once, without losing its small numbers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, VerificationFailed

__all__ = ["PRECISIONS", "STRIP", "balanced", "cast", "cast_all", "precision_of", "strips"]

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

# fp16 keeps its 11 bits between 2^-14 and 2^16; factors whose largest value lies outside lose bits or overflow.
_SMALL, _LARGE = 2.0**-8, 2.0**14
# Elements: 128 KB of fp32 stay in the cache of a core, and below its grain of 32768 torch starts no threads. Where
# others use the cores, those wait for each other: measured, a pass over 16 M numbers took 24 times as long.
STRIP = 32_000


def precision_of(name: str) -> torch.dtype:
    """Return a dtype by the name that users write. Raises UsageError listing the names."""
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def strips(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield contiguous tensors of one size side by side as flat views, each small enough to stay in the cache."""
    return zip(*(torch.split(each.view(-1), STRIP) for each in tensors), strict=True)


def cast(tensor: Tensor, dtype: torch.dtype | None, *, name: str) -> Tensor:
    """Return a floating tensor in `dtype`; integers and None leave it. Raises VerificationFailed where it overflows."""
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    tensor = tensor.detach().contiguous()
    result = torch.empty_like(tensor, dtype=dtype)
    narrower, finite = torch.finfo(dtype).max < torch.finfo(tensor.dtype).max, True
    for found, given in strips(result, tensor) if tensor.numel() else ():
        found.copy_(given.float())  # by way of fp32, which changes no bit and halves the time from fp16 to bf16
        finite = finite and not (narrower and _has_infinite(found))
    if not finite and torch.isfinite(tensor).all():
        raise VerificationFailed(
            f"{name} has values up to {float(tensor.float().abs().max()):.3g}, beyond the largest number of {dtype}",
            hint="use bf16 or fp32",
        )
    return result


def _has_infinite(strip: Tensor) -> bool:
    low, high = torch.aminmax(strip)
    return not (math.isfinite(low) and math.isfinite(high))


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
