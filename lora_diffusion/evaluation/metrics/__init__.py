"""One file per metric; each holds one `Metric`, and adding a metric is adding a file."""

import importlib
import pkgutil
from functools import cache

from lora_diffusion.evaluation.metric import Metric

__all__ = ["metrics"]


@cache
def metrics() -> tuple[Metric, ...]:
    """Return every metric of this package, in the order of the page."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    found = [cls() for cls in Metric.__subclasses__() if cls.__module__.startswith(f"{__name__}.")]
    return tuple(sorted(found, key=lambda each: (each.place, each.name)))
