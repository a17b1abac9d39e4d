"""Where the base model and the styles lie that come with the package."""

from pathlib import Path

from lora_diffusion.errors import PlanError

__all__ = ["BASE", "STYLES", "picture_folder", "style_names"]

BASE = Path(__file__).parent / "demo" / "base"
STYLES = Path(__file__).parent / "demo" / "styles"

_PREFIX = "demo:"


def style_names() -> list[str]:
    """Return the names of the styles that come with the package."""
    return sorted(folder.name for folder in STYLES.iterdir() if folder.is_dir() and not folder.name.startswith("_"))


def picture_folder(folder: str) -> Path:
    """Return a folder of pictures as a path; `demo:NAME` is a style that comes with the package.

    Raises PlanError with the names when there is no such style.
    """
    if not folder.startswith(_PREFIX):
        return Path(folder).expanduser()
    name = folder.removeprefix(_PREFIX)
    if name not in style_names():
        raise PlanError(f"no style {name!r} comes with the package", hint=f"use one of: {', '.join(style_names())}")
    return STYLES / name
