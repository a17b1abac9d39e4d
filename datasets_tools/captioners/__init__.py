"""Captioners, one file each: a module here with a function `captioner()` is found by its name.

Heavy imports belong inside that function.
"""

import difflib
import importlib
import pkgutil

from datasets_tools.caption import Captioner
from datasets_tools.errors import InvalidSetting

__all__ = ["captioner", "captioner_names"]


def captioner_names() -> tuple[str, ...]:
    """Return the names that `captioner` takes, sorted; imports none of them."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def captioner(name: str) -> Captioner:
    """Return the captioner of that name. Raises InvalidSetting with the nearest spelling."""
    names = captioner_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InvalidSetting(f"there is no captioner {name!r}{meant}", hint=f"choose one of {', '.join(names)}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    made: Captioner = module.captioner()
    return made
