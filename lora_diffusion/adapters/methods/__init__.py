"""One file per adapter method that can be trained; each holds one AdapterLayer, and adding a method is adding a file.

What other programs trained with other methods is read as whole changes of the weights.
"""

import importlib
import pkgutil
from functools import cache

from torch import nn

from lora_diffusion.adapters.layer import AdapterLayer
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.adapters.whole import Whole
from lora_diffusion.errors import PlanError

__all__ = ["layer_of", "method", "methods"]


@cache
def methods() -> dict[str, type[AdapterLayer]]:
    """Return every method of this package, which are those that can be trained, by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return {cls.method: cls for cls in AdapterLayer.__subclasses__() if cls.__module__.startswith(f"{__name__}.")}


def method(name: str) -> type[AdapterLayer]:
    """Return the method of that name. Raises PlanError with the known names."""
    if name not in methods():
        raise PlanError(f"adapter.method {name!r} is not known", hint=f"use one of: {', '.join(sorted(methods()))}")
    return methods()[name]


def layer_of(weights: Weights, base: nn.Module) -> AdapterLayer:
    """Return the layer for trained weights of any method. Raises ValueError when they do not fit the base."""
    return (methods()[weights.method] if weights.is_plain else Whole).from_weights(weights, base)
