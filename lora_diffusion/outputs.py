"""Where results may go: never over what is there, unless that was asked for."""

import os
from pathlib import Path

from lora_diffusion.errors import UsageError

__all__ = ["require_free"]


def require_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError where something lies at a path and may not be replaced; a folder never is."""
    if not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink():
        raise UsageError(f"{path} is a folder that exists already", hint="choose another name, or remove it first")
    if not overwrite:
        raise UsageError(f"{path} exists already", hint="choose another name, or give --overwrite")
