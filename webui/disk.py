"""What lies in folders and what goes of it. Others may write and clean up in the same folders at the same time."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["Found", "bytes_of", "files_below", "is_older", "remove_files", "remove_old_folders"]

Found = Mapping[Path, os.stat_result]
"""Files with what was known of each when it was looked at."""


def files_below(*places: Path) -> Found:
    """Return the files below folders, and of these places those that are files; what vanishes meanwhile is left out."""
    paths = list(places)
    for place in places:
        paths += (Path(parent, name) for parent, _, names in os.walk(place) for name in names)
    found = {}
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found[path] = status
    return found


def bytes_of(files: Found, *, if_gone: bool = False) -> int:
    """Return what files take, each once under however many names; `if_gone`: what is free when these names are gone."""
    names = Counter(map(_file, files.values()))
    each = {_file(status): status for status in files.values()}
    return sum(one.st_size for key, one in each.items() if not if_gone or names[key] >= one.st_nlink)


def remove_files(files: Iterable[Path]) -> None:
    """Remove files, of which others may be quicker to remove some."""
    for path in files:
        path.unlink(missing_ok=True)


def remove_old_folders(folder: Path, before: float) -> None:
    """Remove the empty folders below one that nothing was put in since `before`, seconds since the epoch."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it is not empty, or something came meanwhile
            if Path(parent) != folder and is_older(Path(parent), before):
                os.rmdir(parent)


def is_older(path: Path, before: float) -> bool:
    """Say whether something was last changed before a time; what is gone was not."""
    try:
        return path.lstat().st_mtime < before
    except FileNotFoundError:
        return False


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
