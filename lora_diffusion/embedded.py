"""Where the base model, the styles and the adapters lie that come with the package."""

from pathlib import Path

from lora_diffusion.errors import PlanError

__all__ = ["ADAPTERS", "BASE", "STYLES", "adapters", "picture_folder", "style_names"]

BASE = Path(__file__).parent / "demo" / "base"
STYLES = Path(__file__).parent / "demo" / "styles"
ADAPTERS = Path(__file__).parent / "demo" / "adapters"

_PREFIX = "demo:"


def style_names() -> list[str]:
    """Return the names of the styles that come with the package."""
    return sorted(folder.name for folder in STYLES.iterdir() if folder.is_dir() and not folder.name.startswith("_"))


def adapters() -> dict[str, Path]:
    """Return the adapters that come with the package by name; each is trained on the style of that name.

    `demo/plan.toml` made them, with data.trigger=NAME and adapter.rank=6, exported in fp16 without what is private.
    """
    return {path.stem: path for path in sorted(ADAPTERS.glob("*.safetensors"))}


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
