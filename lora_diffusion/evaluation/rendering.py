"""Pages as one HTML file each that needs nothing else."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from lora_diffusion.evaluation.evidence import Given
from lora_diffusion.evaluation.features import Pixels

__all__ = ["figure", "jpeg", "render", "shown"]

_SIDE = 256  # pixels of a picture on the page: about 10 kB each
_SHOWN = 8  # training pictures to compare with


def render(template: str, path: Path, context: Mapping[str, object]) -> None:
    """Write a page, whole or not at all. Raises DatasetError when `path` cannot be written."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from datasets_tools.storage import replacing

    environment = Environment(
        loader=PackageLoader("lora_diffusion.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"digest": _digest, "figure": figure}
    text = environment.get_template(template).render(context)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(text)


def figure(value: float) -> str:
    """Return a number with the digits that it is known to."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) < 2 else f"{value:.1f}"


def shown(given: Sequence[Given] | None) -> list[tuple[str, str]]:
    """Return names and JPEGs of some pictures that somebody gave."""
    return [(each.name, jpeg(each.pixels)) for each in (given or ())[:_SHOWN]]


def jpeg(pixels: Pixels) -> str:
    """Return a picture as base64 JPEG."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _digest(style: str) -> str:
    """Return what a content security policy calls this style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
