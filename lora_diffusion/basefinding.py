"""Which base models lie in a folder, and what they are, without loading their weights."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_diffusion.errors import LoraDiffusionError

__all__ = ["FoundBase", "find_bases"]

DEPTH = 3
"""Folders below the one that is named: as deep as people sort models by family and maker."""

SMALLEST_CHECKPOINT = 50 * 2**20
"""Bytes. Files below are adapters, embeddings or VAEs; the smallest base model that is published has 1.7 GB."""


@dataclass(frozen=True, kw_only=True)
class FoundBase:
    """A base model, or a file that looks like one; then `problem` says why it cannot be used.

    `name` is its path below the folder, `bytes` what its weights take, `resolution` in pixels.
    """

    name: str
    path: Path
    kind: str
    family: str
    resolution: int
    bytes: int
    problem: str = ""
    hint: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def find_bases(folder: Path) -> list[FoundBase]:
    """Return what lies in a folder and up to three below, in order of names: diffusers folders and single files.

    Raises BaseNotFound where there is no such folder. Links to folders are not followed.
    """
    from lora_diffusion.errors import BaseNotFound

    if not folder.is_dir():
        raise BaseNotFound(f"there is no folder {folder}", hint="name the folder that holds your base models")
    return [_described(path, folder) for path in sorted(_candidates(folder, DEPTH))]


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "model_index.json").is_file():
        yield folder
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink() and depth:
            yield from _candidates(path, depth - 1)
        elif path.suffix == ".safetensors" and path.is_file() and path.stat().st_size >= SMALLEST_CHECKPOINT:
            yield path


def _described(path: Path, folder: Path) -> FoundBase:
    from lora_diffusion.families import detect

    kind = "folder" if path.is_dir() else "file"
    family, resolution, problem, hint = "", 0, "", ""
    try:
        found = detect(path)
        family = found.name
        resolution, _ = found.geometry(path)
    except (LoraDiffusionError, OSError, ValueError, KeyError) as error:
        problem, hint = str(error), getattr(error, "hint", "")
    return FoundBase(
        name=path.relative_to(folder).with_suffix("").as_posix() if path != folder else folder.name,
        path=path,
        kind=kind,
        family=family,
        resolution=resolution,
        bytes=_bytes(path),
        problem=problem,
        hint=hint,
    )


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*.safetensors"))
