"""Caption edits for some pictures of a folder: a caption written anew, and any other edit for pictures by their names.

A glob cannot name a picture for certain: `[a].png` is a name too.
"""

from dataclasses import dataclass
from pathlib import Path

from datasets_tools.edit import Edit
from datasets_tools.editing import AppliedEdits, apply_edits
from datasets_tools.errors import InvalidSetting
from datasets_tools.listing import list_folder

__all__ = ["OnlyFor", "Rewrite", "set_caption"]


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """The caption becomes another text."""

    text: str

    @property
    def what(self) -> str:
        return f'write "{self.text[:40]}"'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return self.text


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


def set_caption(folder: Path | str, file: str, text: str, *, when: str = "") -> AppliedEdits:
    """Write the caption of one picture, as one line; it can be undone.

    Raises InvalidSetting where `file` is no picture of the folder, and what `apply_edits` raises.
    """
    if file not in list_folder(Path(folder)).pictures:
        raise InvalidSetting(f"{file} is not a picture of {Path(folder).name}", hint="give a name of its list")
    return apply_edits(folder, [OnlyFor(edit=Rewrite(text=text), files=frozenset({file}))], when=when)
