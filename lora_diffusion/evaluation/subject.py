"""What an evaluation is about: adapter, base model, pictures, prompts; all found before anything is loaded."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_diffusion.embedded import BASE as EMBEDDED
from lora_diffusion.embedded import picture_folder, style_names
from lora_diffusion.errors import BaseNotFound, UsageError
from lora_diffusion.evaluation.evidence import Given, Prompt
from lora_diffusion.families import detect, locate
from lora_diffusion.files.adapter import Adapter

__all__ = ["NEUTRAL", "OnProgress", "Subject", "silent", "subject_of"]

OnProgress = Callable[[str, int, int], None]


def silent(text: str, done: int, total: int) -> None:
    """Tell nobody how far an evaluation is."""


NEUTRAL = (
    "a cup on a table", "a bicycle beside a wall", "a mountain lake", "a portrait of a woman", "a city street in rain",
    "a sleeping cat", "a bowl of fruit", "a sailing boat", "a forest path", "a chair in a room", "a dog in a park",
    "a bridge over a river", "a vase with flowers", "a man with a hat", "a house on a hill", "a bird on a branch",
    "a train in a station", "a book and a lamp", "a field at sunset", "a child with a kite", "an old car",
    "a lighthouse", "a market stall", "a horse in the snow",
)  # fmt: skip
"""Ordinary things that every large base model draws; none names a style."""

_MOST = 200
"""Pictures of a folder that are looked at, spread evenly; more change the figures by less than a hundredth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """All that is known before anything is loaded. `notes` are what a reader of the figures should know."""

    adapter: Adapter
    against: Adapter | None
    base: Path
    base_name: str
    resolution: int
    prompts: tuple[Prompt, ...]
    training: tuple[Given, ...] | None
    held_out: tuple[Given, ...] | None
    notes: tuple[str, ...]


def subject_of(
    adapter: Adapter,
    against: Adapter | None,
    *,
    base: str,
    data: str,
    held_out: str,
    prompts: int,
    on_progress: OnProgress,
) -> Subject:
    """Find base model, pictures and prompts; what is not named is what the adapter says about itself.

    Raises UsageError where the base model cannot be found, WrongFamily where the two adapters do not belong together,
    NoImages for a folder without pictures.
    """
    from lora_diffusion.generation.blend import require_one_family

    path, name = _base(adapter, base)
    family = detect(path)
    require_one_family([adapter, *([against] if against else [])], family.name)
    resolution, _ = family.geometry(path)
    notes: list[str] = []
    folder = data or (_demo_data(adapter) if name == "demo" else "")
    training = shown = None
    if folder:
        apart = [picture_folder(held_out)] if held_out else []
        training, found = _pictures(folder, adapter, resolution, apart, on_progress)
        trained_on = adapter.metadata.get("lora_diffusion.manifest", "")
        if trained_on and trained_on != found:
            notes.append("The pictures or captions given are not exactly those that the adapter was trained on.")
    if held_out:
        shown, _ = _pictures(held_out, adapter, resolution, [], on_progress)
    return Subject(
        adapter=adapter,
        against=against,
        base=path,
        base_name=name,
        resolution=resolution,
        prompts=tuple(_prompts(shown, path, adapter.trigger))[:prompts],
        training=training,
        held_out=shown,
        notes=tuple(notes),
    )


def _base(adapter: Adapter, base: str) -> tuple[Path, str]:
    """Return path and name of the base model that was named, or that the adapter says it was trained on."""
    said = adapter.metadata.get("lora_diffusion.base", "")
    if base or said == "demo":
        path = locate(base or said)
        return path, "demo" if path == EMBEDDED else path.name
    with suppress(BaseNotFound):
        return locate(said), Path(said).name
    told = f"it was trained on {said}" if said else "it does not say what it was trained on"
    raise UsageError(f"no base model for {adapter.name}: {told}", hint="name it with --base")


def _demo_data(adapter: Adapter) -> str:
    """Return the style of the package that an adapter for the embedded base is called after."""
    known = style_names()
    names = (adapter.trigger, adapter.metadata.get("modelspec.title", ""), adapter.name)
    return next((f"demo:{name}" for name in names if name in known), "")


def _pictures(
    folder: str, adapter: Adapter, resolution: int, apart: list[Path], on_progress: OnProgress
) -> tuple[tuple[Given, ...], str]:
    """Return the pictures of a folder as the base model sees them, and the fingerprint of the folder."""
    from datasets_tools.bucket import Bucket, crop_for
    from datasets_tools.caption import with_trigger
    from datasets_tools.image import open_picture, render
    from datasets_tools.scan import scan_folder

    def told(done: int, total: int) -> None:
        on_progress("looking at pictures", done, total)

    scan = scan_folder(picture_folder(folder), trigger=adapter.trigger, skip=apart, on_progress=told)
    manifest, captions = scan.manifest, scan.captions.by_image
    if not manifest.records:
        raise UsageError(f"no picture in {folder} can be used", hint="run check on that folder: it names each reason")
    square, result = Bucket(width=resolution, height=resolution), []
    for record in manifest.records[:: max(1, -(-len(manifest.records) // _MOST))]:
        image = open_picture(manifest.path(record), at_least=resolution).image
        pixels = np.asarray(render(image, crop_for(image.width, image.height, square)).convert("RGB"))
        content = with_trigger(captions[record.file].text, "") if record.file in captions else ""
        result.append(Given(name=record.file, content=content, caption=record.caption, pixels=pixels))
    return tuple(result), manifest.fingerprint


def _prompts(held_out: tuple[Given, ...] | None, base: Path, trigger: str) -> Iterator[Prompt]:
    """Yield what to draw: what held-out pictures show, else ordinary things."""
    from datasets_tools.caption import with_trigger

    contents = list(dict.fromkeys(each.content for each in held_out or () if each.content))
    if len(contents) < 2:
        contents = _embedded_prompts() if base == EMBEDDED else list(NEUTRAL)
    for content in contents:
        yield Prompt(content=content, full=with_trigger(content, trigger))


def _embedded_prompts() -> list[str]:
    from lora_diffusion.demo import held_out_prompts

    return held_out_prompts(64)
