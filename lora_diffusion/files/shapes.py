"""Two or four dimensions: the same 1x1 convolution is stored both ways by different programs."""

from collections.abc import Mapping
from dataclasses import replace

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families.names import component_of, naming

__all__ = ["is_convolution", "with_usual_dimensions"]

_CONVOLUTIONS = (".conv", ".conv1", ".conv2", ".conv_shortcut", ".conv_in", ".conv_out")
_PROJECTIONS = (".proj_in", ".proj_out")


def is_convolution(module: str, family: str) -> bool:
    """Tell whether a module of the denoiser is a Conv2d by its canonical name."""
    if component_of(module) != "denoiser":
        return False
    if module.endswith(_PROJECTIONS):
        return not naming(family).linear_projections
    return module.endswith(_CONVOLUTIONS)


def with_usual_dimensions(modules: Mapping[str, Weights], family: str) -> tuple[dict[str, Weights], tuple[str, ...]]:
    """Return the modules with the dimensions that the base weights have, and a line for what was reshaped.

    Only 1x1 kernels change: a larger one at a Linear is no spelling but an error, left for the base to find.
    """
    result, reshaped = {}, 0
    for name, weights in modules.items():
        ndim = 4 if is_convolution(name, family) else 2
        result[name] = _reshaped(weights, ndim)
        reshaped += result[name] is not weights
    line = f"1x1 convolutions stored in other dimensions than the base has: reshaped ({reshaped} modules)"
    return result, (line,) if reshaped else ()


def _reshaped(weights: Weights, ndim: int) -> Weights:
    down, up = weights.down, weights.up
    if down.ndim == up.ndim == ndim or (down.shape[2:].numel() != 1 and ndim == 2):
        return weights
    kernel = tuple(down.shape[2:]) or (1, 1)
    if ndim == 2:
        return replace(weights, down=down.flatten(1), up=up.flatten(1))
    return replace(weights, down=down.reshape(*down.shape[:2], *kernel), up=up.reshape(*up.shape[:2], 1, 1))
