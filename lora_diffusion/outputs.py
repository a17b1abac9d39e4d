"""Where results may go: never over what is there, unless that was asked for, and never over what they are made of."""

import os
from collections.abc import Iterable
from pathlib import Path

from lora_diffusion.errors import UsageError

__all__ = ["require_free", "require_other"]


def require_free(path: Path, overwrite: bool, *, inputs: Iterable[Path | str] = ()) -> None:
    """Raise UsageError where something lies at a path and may not be replaced; a folder never is, nor an input."""
    require_other(path, inputs)
    if not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder that exists already", hint="choose another name, or remove it first")
    if not overwrite:
        raise UsageError(f"{path} exists already", hint="choose another name, or give --overwrite")


def require_other(path: Path, inputs: Iterable[Path | str]) -> None:
    """Raise UsageError where a result would take the place of something that it is made of, or lie inside it."""
    for each in map(Path, inputs):
        if not each.exists():
            continue
        inside = each.is_dir() and path.absolute().resolve().is_relative_to(each.resolve())
        if inside or (path.exists() and path.samefile(each)):
            raise UsageError(f"{path} is part of what is read ({each})", hint="give the result another name")
