"""One file per adapter method; each holds one AdapterLayer, and adding a method is adding a file."""

import importlib
import pkgutil
from functools import cache

from lora_diffusion.adapters.layer import AdapterLayer
from lora_diffusion.errors import PlanError

__all__ = ["method", "methods"]


@cache
def methods() -> dict[str, type[AdapterLayer]]:
    """Return every adapter method of this package by name."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return {cls.method: cls for cls in AdapterLayer.__subclasses__()}


def method(name: str) -> type[AdapterLayer]:
    """Return the method of that name. Raises PlanError with the known names."""
    if name not in methods():
        raise PlanError(f"adapter.method {name!r} is not known", hint=f"use one of: {', '.join(sorted(methods()))}")
    return methods()[name]
