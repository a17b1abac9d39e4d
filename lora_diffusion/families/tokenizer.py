"""The tokenizer of a base model: inside it, beside it, or in a folder that was named."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import single_file

__all__ = ["padded_files", "tokenizer"]

_FIRST = "tokenizer"
_OPEN_CLIP_PAD = "!"  # entry 0 of the vocabulary: OpenCLIP fills up with zeros where CLIP repeats the end


def tokenizer(path: Path, named: str, vocabulary: int, *, folder: str = _FIRST) -> Any:
    """Return the tokenizer that was named, or the one inside or beside the weights, with so many entries.

    Where a second one (`folder` "tokenizer_2") has no folder of its own, it is the first one filling up as OpenCLIP
    does. Raises BaseNotFound where none fits.
    """
    if path.is_file() and not named:
        with single_file.tokenizer_folder(path) as inside:
            places = [*([inside] if inside else []), path.parent / _FIRST]
            return _first(path, places, vocabulary, padded=folder != _FIRST)
    own = path / folder
    if not named and (folder == _FIRST or own.is_dir()):
        return _first(path, [own], vocabulary, padded=False)
    return _first(path, [Path(named) if named else path / _FIRST], vocabulary, padded=folder != _FIRST)


def padded_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a tokenizer, text by name, changed so that it fills up as OpenCLIP does."""
    changed = {}
    for name, text in files.items():
        if name in ("tokenizer_config.json", "special_tokens_map.json"):
            text = json.dumps({**json.loads(text), "pad_token": _OPEN_CLIP_PAD}, indent=2)
        changed[name] = text
    return changed


def _first(path: Path, places: Sequence[Path], vocabulary: int, *, padded: bool) -> Any:
    from transformers import CLIPTokenizer

    options = {"pad_token": _OPEN_CLIP_PAD} if padded else {}
    for place in places:
        if (place / "vocab.json").is_file() or (place / "tokenizer.json").is_file():
            found = CLIPTokenizer.from_pretrained(place, **options)
            if len(found) == vocabulary:
                return found
    raise BaseNotFound(
        f"{path} has no tokenizer of {vocabulary} entries (looked in {', '.join(str(place) for place in places)})",
        hint="set base.tokenizer (--tokenizer) to the tokenizer folder of the same kind of base model",
    )
