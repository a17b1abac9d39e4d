"""Words from the names of folders: `night city/a.jpg` says "night city"; `10_brand cup/a.jpg`, "brand cup"."""

import re
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.caption import Captioner
from datasets_tools.errors import InvalidSetting

__all__ = ["captioner"]

# What people call a folder of pictures; none of it describes one.
_GENERAL = {
    *("images", "image", "img", "imgs", "pictures", "picture", "pics", "photos", "photo", "bilder", "fotos"),
    *("train", "training", "dataset", "data", "set", "input", "raw", "final", "new", "export", "downloads", "files"),
}
_REPEATS = re.compile(r"^\d+_(?=\D)")  # kohya's trainer reads "10_name" as ten repeats of name


@dataclass(frozen=True, kw_only=True)
class _FromFolders:
    levels: int
    name: str = "folder"

    def caption(self, file: Path) -> str:
        folders = [parent.name for parent in Path(file).absolute().parents][: self.levels]
        return ", ".join(filter(None, (_words(folder) for folder in reversed(folders))))


def captioner(levels: str = "1") -> Captioner:
    """Return the captioner that reads folder names, from the picture's own up to so many levels above."""
    if not (levels.isdecimal() and 1 <= int(levels) <= 9):
        raise InvalidSetting(f"folder:{levels} is not a number of levels", hint="write folder, or folder:2 up to 9")
    return _FromFolders(levels=int(levels))


def _words(folder: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.+]+", " ", _REPEATS.sub("", folder))
    words = spaced.split()
    return "" if all(word.isdigit() or word.lower() in _GENERAL for word in words) else " ".join(words)
