"""Two or four dimensions: the same 1x1 convolution is stored both ways by different programs.

LoHa and LoKr flatten kernels, so that only the module's name tells a convolution; every kernel of the UNets of Stable
Diffusion is 3x3 but those of shortcuts and projections.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families.names import component_of, naming

__all__ = ["is_convolution", "with_usual_dimensions"]

_CONVOLUTIONS = (".conv", ".conv1", ".conv2", ".conv_shortcut", ".conv_in", ".conv_out")
_PROJECTIONS = (".proj_in", ".proj_out")
_ONE_BY_ONE = (".conv_shortcut", *_PROJECTIONS)


def is_convolution(module: str, family: str) -> bool:
    """Tell whether a module of the denoiser is a Conv2d by its canonical name."""
    if component_of(module) != "denoiser":
        return False
    if module.endswith(_PROJECTIONS):
        return not naming(family).linear_projections
    return module.endswith(_CONVOLUTIONS)


def with_usual_dimensions(modules: Mapping[str, Weights], family: str) -> tuple[dict[str, Weights], tuple[str, ...]]:
    """Return the modules with the dimensions that the base weights have, and a line for what was reshaped.

    A larger kernel at a Linear is no spelling but an error, left for the base to find. Flattened kernels of LoHa and
    LoKr are named, which is no repair: their tensors stay as they are; that of a LoRA gets its dimensions.
    """
    result, reshaped = {}, 0
    for name, weights in modules.items():
        ndim = 4 if is_convolution(name, family) else 2
        side = 1 if name.endswith(_ONE_BY_ONE) else 3
        usual = _reshaped(weights, ndim, side)
        reshaped += usual is not weights
        if ndim == 4 and len(usual.shape) == 2:
            usual = _with_kernel(usual, side)
        result[name] = _with_usual_norms(usual)
    line = f"convolutions stored in other dimensions than the base has: reshaped ({reshaped} modules)"
    return result, (line,) if reshaped else ()


def _reshaped(weights: Weights, ndim: int, side: int) -> Weights:
    if weights.method == "full":
        return _reshaped_whole(weights, ndim)
    if weights.method == "lokr" and ndim == 2 and weights.down.ndim == 4 and weights.down.shape[2:].numel() == 1:
        return replace(weights, down=weights.down.flatten(1))
    down, up = weights.down, weights.up
    if weights.method != "lora" or "mid" in weights.extra:
        return weights
    if down.ndim == up.ndim == ndim or (down.shape[2:].numel() != 1 and ndim == 2):
        return weights
    # 2-D factors at a larger kernel hold it flattened: [r, in * kh * kw]
    kernel = tuple(down.shape[2:]) or ((1, 1) if down.shape[1] % side**2 else (side, side))
    if ndim == 2:
        return replace(weights, down=down.flatten(1), up=up.flatten(1))
    return replace(weights, down=down.reshape(down.shape[0], -1, *kernel), up=up.reshape(*up.shape[:2], 1, 1))


def _reshaped_whole(weights: Weights, ndim: int) -> Weights:
    shape = weights.shape
    if len(shape) == 4 and ndim == 2 and shape[2:] == (1, 1):
        return replace(weights, up=weights.up.flatten(1))
    if len(shape) == 2 and ndim == 4:
        return replace(weights, up=weights.up.reshape(*shape, 1, 1))
    return weights


def _with_kernel(weights: Weights, side: int) -> Weights:
    if weights.method == "lora" or weights.down.shape[1] % side**2:
        return weights
    extra: dict[str, Any] = {**weights.extra, "kernel": (side, side)}
    return replace(weights, extra=extra)


def _with_usual_norms(weights: Weights) -> Weights:
    """Give the norms of a weight decomposition the dimensions of the delta: [out, 1, ...] or [1, in, ...]."""
    norms = weights.extra.get("dora_scale")
    if norms is None or norms.ndim == len(weights.shape):
        return weights
    ones = (1,) * (len(weights.shape) - 2)
    shape = (-1, 1, *ones) if norms.shape[0] == norms.numel() else (1, -1, *ones)
    return replace(weights, extra={**weights.extra, "dora_scale": norms.reshape(shape)})
