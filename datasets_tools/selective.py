"""Caption edits for some pictures of a folder: a caption written anew, and any other edit for pictures by their names.

A glob cannot name a picture for certain: `[a].png` is a name too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.edit import Edit
from datasets_tools.editing import AppliedEdits, apply_edits
from datasets_tools.errors import InvalidSetting
from datasets_tools.listing import list_folder

__all__ = ["OnlyFor", "Rewrite", "set_captions"]


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """Captions become other texts, by the pictures' names relative to the folder; the others stay."""

    captions: Mapping[str, str]

    @property
    def what(self) -> str:
        first = next(iter(self.captions.values()), "")
        return f'write "{first[:40]}"' if len(self.captions) == 1 else f"write {len(self.captions)} captions"

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return self.captions.get(file, text)


@dataclass(frozen=True, kw_only=True)
class OnlyFor:
    """An edit of some pictures, by their names relative to the folder; the others keep their captions."""

    edit: Edit
    files: frozenset[str]

    @property
    def what(self) -> str:
        return self.edit.what

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return self.edit.apply(text, file=file, seed=seed) if file in self.files else text


def set_captions(folder: Path | str, captions: Mapping[str, str], *, when: str = "") -> AppliedEdits:
    """Write the captions of some pictures, each as one line, as one change that can be undone.

    Raises InvalidSetting for a name that is no picture of the folder, and what `apply_edits` raises.
    """
    pictures = set(list_folder(Path(folder)).pictures)
    unknown = next((file for file in captions if file not in pictures), None)
    if unknown is not None:
        raise InvalidSetting(f"{unknown} is not a picture of {Path(folder).name}", hint="give a name of its list")
    return apply_edits(folder, [Rewrite(captions=dict(captions))], when=when)
