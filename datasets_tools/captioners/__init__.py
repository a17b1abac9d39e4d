"""Captioners, one file each: a module here with a function `captioner()` is found by its name.

One that takes an argument, such as a model's folder, has it as a parameter: `blip:FOLDER` calls `captioner("FOLDER")`.
Heavy imports belong inside that function.
"""

import difflib
import importlib
import inspect
import pkgutil

from datasets_tools.caption import Captioner
from datasets_tools.errors import InvalidSetting

__all__ = ["captioner", "captioner_names"]


def captioner_names() -> tuple[str, ...]:
    """Return the names that `captioner` takes, sorted; imports none of them."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def captioner(name: str) -> Captioner:
    """Return the captioner of a `name` or `name:argument`, ready to work.

    Raises InvalidSetting with the nearest spelling, or for an argument where none is taken; and what the captioner
    raises where its model is missing.
    """
    name, colon, argument = name.partition(":")
    names = captioner_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InvalidSetting(f"there is no captioner {name!r}{meant}", hint=f"choose one of {', '.join(names)}")
    make = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").captioner
    if colon and not inspect.signature(make).parameters:
        raise InvalidSetting(
            f"the captioner {name} takes no argument, but got {argument!r}", hint=f"write {name} alone"
        )
    made: Captioner = make(argument) if colon else make()
    return made
