"""The pictures of a training as they were when it started: a copy, so that the set may be worked on meanwhile."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from datasets_tools import describe_pictures, exclude_pictures, replacing_folder

__all__ = ["ENOUGH", "SHARE", "freeze", "held_out_of"]

ENOUGH, SHARE = 12, 8
"""From so many pictures on every eighth can be put aside: fewer teach too little, and one alone tells too little."""


def held_out_of(files: Sequence[str]) -> Sequence[str]:
    """Return the pictures to put aside, spread evenly over the names; none where there are too few."""
    return tuple(files[SHARE // 2 :: SHARE]) if len(files) >= ENOUGH else ()


def freeze(source: Path, target: Path, *, hold_out: bool, when: str) -> tuple[Path, Path | None]:
    """Copy a set to `target`/taught and, for what is put aside, to `target`/held-out; return both folders.

    Files are linked where the disk can, which takes no room: whoever changes a file of a set replaces it.
    """
    with replacing_folder(target) as aside:
        taught, other = aside / "taught", aside / "held-out"
        _copy(source, taught)
        files = [each.file for each in describe_pictures(taught) if not each.excluded]
        chosen = held_out_of(files) if hold_out else ()
        if chosen:
            _copy(source, other)
            exclude_pictures(taught, list(chosen), when=when)
            exclude_pictures(other, [file for file in files if file not in chosen], when=when)
    return target / "taught", target / "held-out" if chosen else None


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(".*"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that cannot link
        shutil.copyfile(source, target)
