"""A page about an adapter for those who receive it: how to call it, what it is, what it was made of.

It says what the file itself says after its privacy profile, and what the caller adds; nothing is guessed. Pictures are
written anew without their metadata. Everything is escaped for the format it stands in.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.storage import replacing_folder, write_text
from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.outputs import require_free

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Card", "check_card", "write_card"]

_FORMATS = (".md", ".html")
_SIDE = 768  # pixels of the longer side: sharp at twice the 230 to 380 at which a card shows them, about 100 kB each
_DATA = {
    "ss_num_train_images": "Pictures",
    "ss_num_reg_images": "Ordinary pictures beside them",
    "modelspec.resolution": "Resolution in pixels",
    "ss_steps": "Steps",
    "ss_total_batch_size": "Pictures per step",
    "ss_learning_rate": "Learning rate",
    "ss_optimizer": "Optimiser",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card that is asked for. `path` ends in .md or .html; a Markdown card puts its pictures into a folder beside it.

    `weights` is the recommended range (low, high); `licence` defaults to the one that the file names. `samples` are
    pictures; where they carry the settings of a picture made here, prompt, seed and weights stand below.
    """

    path: Path
    weights: tuple[float, float] | None = None
    licence: str = ""
    description: str = ""
    samples: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Sample:
    link: str
    data: str
    width: int
    height: int
    says: str
    jpeg: bytes


def check_card(card: Card, overwrite: bool) -> None:
    """Raise UsageError where a card cannot be written, UnreadableImage for a sample that is no picture."""
    from datasets_tools.image import load_image

    if card.path.suffix not in _FORMATS:
        raise UsageError(f"{card.path} is neither .md nor .html", hint="give the card one of these endings")
    require_free(card.path, overwrite)
    if card.samples and card.path.suffix == ".md" and _folder(card).exists():
        raise UsageError(f"{_folder(card)} exists already", hint="remove it, or give the card another name")
    if card.weights is not None and not card.weights[0] <= card.weights[1]:
        raise UsageError(f"the weights {card.weights} are no range", hint="give the lower one first, as 0.6 1.0")
    for sample in card.samples:
        if not sample.is_file():
            raise UsageError(f"there is no picture at {sample}", hint="name sample pictures that exist")
        load_image(sample)


def write_card(
    card: Card, adapter: Adapter, *, file: Path, sha256: str, dialect: str, precision: str, privacy: str
) -> Path:
    """Write a card about an exported file; `adapter` is what reading that file gives.

    Raises as `check_card` and as writing files does.
    """
    from jinja2 import Environment, StrictUndefined

    samples = [_sample(path, number, card, privacy) for number, path in enumerate(card.samples, 1)]
    html = card.path.suffix == ".html"
    page = Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page.filters |= {"plain": _plain, "quoted": _quoted}
    source = (files("lora_diffusion") / f"card{card.path.suffix}.j2").read_text("utf-8")
    said = adapter.metadata
    text = page.from_string(source).render(
        title=said.get("modelspec.title") or adapter.name,
        description=card.description or said.get("modelspec.description", ""),
        family=adapter.family,
        trigger=adapter.trigger,
        base=_base(said),
        licence=_licence(card, said),
        facts=_facts(card, adapter),
        data=[(name, said[key]) for key, name in _DATA.items() if said.get(key)],
        file=_file(adapter, file=file, sha256=sha256, dialect=dialect, precision=precision, privacy=privacy),
        samples=samples,
    )
    if samples and not html:
        with replacing_folder(_folder(card)) as temporary:
            for number, sample in enumerate(samples, 1):
                (temporary / f"{number}.jpg").write_bytes(sample.jpeg)
    write_text(card.path, text)
    return card.path


def _folder(card: Card) -> Path:
    return card.path.with_name(f"{card.path.stem}-samples")


def _base(said: Mapping[str, str]) -> str:
    return said.get("lora_diffusion.base") or said.get("ss_sd_model_name", "")


def _licence(card: Card, said: Mapping[str, str]) -> str:
    return card.licence or said.get("modelspec.license", "")


def _facts(card: Card, adapter: Adapter) -> list[tuple[str, str]]:
    low, high = card.weights or (None, None)
    components = ", ".join(f"{name} ({count})" for name, count in adapter.components.items())
    facts = [
        ("Trigger", adapter.trigger or "none: it acts without a word"),
        ("Recommended weight", "not stated" if low is None else f"{low:g} to {high:g}"),
        ("Base model", _base(adapter.metadata) or "not stated"),
        ("Family", adapter.family),
        ("Ranks", _span(adapter.ranks)),
        ("Modules", components),
        ("Licence", _licence(card, adapter.metadata) or "not stated: ask the author before using it"),
    ]
    if recipe := adapter.metadata.get("lora_diffusion.blend"):
        facts.append(("Blended from", _recipe(recipe)))
    return facts


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _recipe(text: str) -> str:
    try:
        parts = json.loads(text)["parts"]
        return ", ".join(f"{each['name']} ({each['weight']:g})" for each in parts)
    except (ValueError, KeyError, TypeError):
        return "several adapters"


def _file(
    adapter: Adapter, *, file: Path, sha256: str, dialect: str, precision: str, privacy: str
) -> list[tuple[str, str]]:
    return [
        ("Name", file.name),
        ("SHA-256", sha256),
        ("Fingerprint of the weights", adapter.fingerprint),
        ("Dialect", dialect),
        ("Precision", precision),
        ("Privacy profile", privacy),
    ]


def _sample(path: Path, number: int, card: Card, privacy: str) -> _Sample:
    from datasets_tools.image import load_image

    image = load_image(path)
    image.thumbnail((_SIDE, _SIDE))
    jpeg = _jpeg(image)
    return _Sample(
        link=f"{_link(_folder(card).name)}/{number}.jpg",
        data=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
        width=image.width,
        height=image.height,
        says=_said(path, privacy),
        jpeg=jpeg,
    )


def _jpeg(image: "Image.Image") -> bytes:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=88)
    return data.getvalue()


def _said(path: Path, privacy: str) -> str:
    """Return prompt, seed and weights of a picture made here, or nothing for one of other programs.

    On a public card nothing is said either where that would give someone away.
    """
    from lora_diffusion.files.privacy import find_private
    from lora_diffusion.generation.picture import read_settings

    try:
        settings = read_settings(path)
    except CorruptFile:
        return ""
    weights = ", ".join(f"{name} {weight:g}" for name, weight in settings.adapters.items())
    said = f"{settings.prompt} (seed {settings.seed}{', ' + weights if weights else ''})"
    return "" if privacy == "public" and find_private(said) else said


def _plain(value: Any) -> str:
    """Escape a text for one line or table cell of Markdown, whose readers also run HTML."""
    line = re.sub(r"\s+", " ", str(value)).strip()
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$:])", r"\\\1", escaped)


def _quoted(value: Any) -> str:
    """Return a YAML string: JSON strings are YAML."""
    return json.dumps(str(value), ensure_ascii=True)


def _link(name: str) -> str:
    from urllib.parse import quote

    return quote(name)
