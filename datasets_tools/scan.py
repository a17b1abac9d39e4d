"""Look at every file of a folder in full: what is a picture, what is broken, what is there twice.

A broken file is a finding and never stops the rest. Many files are looked at in processes of their own.
"""

import os
import re
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datasets_tools.alike import duplicates, near_duplicates
from datasets_tools.caption import Captions, find_captions, with_trigger
from datasets_tools.compact import Computed
from datasets_tools.finding import Finding, Severity, blocks, notes, warns
from datasets_tools.listing import list_folder, no_images
from datasets_tools.look import Look, Seen, look_at
from datasets_tools.looked import Looked
from datasets_tools.manifest import Manifest, Record
from datasets_tools.workers import Workers

if TYPE_CHECKING:
    from datasets_tools.image import Colour, Limits
    from datasets_tools.journal import Journal
    from datasets_tools.palette import Palette

__all__ = ["Progress", "Scan", "scan_folder"]

Progress = Callable[[int, int], None]
"""Called with (done, total) after each picture, in the thread that called scan."""

_TINY = 32  # pixels of the shorter side: less than an icon; the result would be a blur at any resolution
_MANY = 48  # files for which starting other processes (half a second) pays
# `10_name`, as kohya's tools name folders; `01_intro` and `2024_summer` are numbers of another kind
_REPEATS = re.compile(r"([1-9]\d{0,2})_\S")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The pictures that can be trained on, how each looks (in the same order), and what was found on the way.

    The colours of each picture are in `palette` alone: kept one by one they would fill most of the memory.
    """

    manifest: Manifest
    pictures: Sequence[Seen]
    palette: "Palette"
    findings: tuple[Finding, ...]
    captions: Captions


def scan_folder(
    folder: Path | str,
    *,
    trigger: str = "",
    background: "Colour" = (255, 255, 255),
    limits: "Limits | None" = None,
    skip: Sequence[Path] = (),
    journal: "Journal | None" = None,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> Scan:
    """Read every picture of the folder and below in full, and match the captions.

    What is hidden, `__MACOSX` and the like are left out, links that lead out are refused, folders in `skip` are not
    entered. The records are in name order whatever the file system says. Pictures whose bytes the journal knows are not
    decoded again. Raises NoImages when the folder is missing or holds nothing that claims to be a picture; the hint
    names the likely right path.
    """
    root, files, found, captions = _listed(Path(folder), skip)
    look = Look(folder=root, background=background, limits=limits, journal=journal)
    looked, palette = _look_at_all(look, files, on_progress, workers)
    places = array(
        "I", (at for at, file in enumerate(files) if looked.is_readable(at) and file not in captions.excluded)
    )
    used = looked.at(places)
    repeats = _repeats([files[place] for place in places])
    findings = [
        *found,
        *(_unreadable(root, one) for one in looked.refused()),
        *(finding for one in used for finding in _about(one)),
        *duplicates(used),
        *near_duplicates(used),
        *captions.findings,
        *(_excluded(file, where) for file, where in captions.excluded.items()),
        *_about_repeats(repeats),
    ]
    least = min(repeats, default=1)  # only ratios matter: an epoch stays one pass over the rarest
    records = Computed(len(used), lambda at: _record(used[at], captions, trigger, repeats[at] / least))
    manifest = Manifest(root, records)
    return Scan(manifest=manifest, pictures=used, palette=palette, findings=tuple(findings), captions=captions)


def _listed(folder: Path, skip: Sequence[Path]) -> tuple[Path, Sequence[str], Sequence[Finding], Captions]:
    """Return the folder, its pictures, what was found on the way, and the captions: first, while memory is free."""
    listing = list_folder(folder, skip=skip)
    if not listing.pictures:
        raise no_images(listing)
    captions = find_captions(listing.folder, listing.pictures, listing.texts)
    return listing.folder, listing.pictures, listing.findings, captions


def _look_at_all(
    look: Look, files: Sequence[str], on_progress: Progress | None, workers: int | None
) -> tuple[Looked, "Palette"]:
    from datasets_tools.palette import SetPalette

    workers = workers or os.cpu_count() or 1
    looked = Looked()
    colours = SetPalette()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    with _looking(look, len(files), workers) as work:
        try:
            for one in _in_order(pool, work, files, ahead=4 * workers):
                if one.refused is None:
                    colours.add(one.quality.colours)
                looked.add(one)
                if on_progress is not None:
                    on_progress(len(looked.files), len(files))
            return looked, colours.palette()
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest of the folder


@contextmanager
def _looking(look: Look, files: int, workers: int) -> Iterator[Callable[[str], Seen]]:
    """Yield how one file is looked at: in this process, or in others where there are enough files to start them for."""
    if files < _MANY or workers == 1:
        yield partial(look_at, look=look)
        return
    with Workers(look, workers) as others:
        yield others.look


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[str], Seen], files: Sequence[str], *, ahead: int
) -> Iterator[Seen]:
    """Do the work for each file, in order, never further ahead than so many: `pool.map` queues 100,000 at once."""
    waiting: deque[Future[Seen]] = deque()
    for file in files:
        waiting.append(pool.submit(work, file))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _record(one: Seen, captions: Captions, trigger: str, repeats: float) -> Record:
    caption = captions.by_image.get(one.file)
    return Record(
        file=one.file,
        sha256=one.sha256,
        bytes=one.bytes,
        width=one.size[0],
        height=one.size[1],
        caption=with_trigger("" if caption is None else caption.text, trigger),
        trigger=trigger,
        orientation=one.orientation,
        repeats=repeats,
        rights=captions.rights.get(one.file),
    )


def _repeats(files: Sequence[str]) -> Sequence[int]:
    """Return what the folders named like `10_name` state, 1 where none does or where the numbers only count folders."""
    stated = array("H", (_stated_repeats(file) or 0 for file in files))
    numbers = set(stated) - {0}
    if len(numbers) > 1 and numbers == set(range(1, len(numbers) + 1)):  # 1_faces, 2_hands, 3_rooms
        return array("H", [1]) * len(files)
    return array("H", (number or 1 for number in stated))


def _stated_repeats(file: str) -> int | None:
    """Return the number that the nearest folder named `10_name` states, or None."""
    for part in reversed(PurePosixPath(file).parts[:-1]):
        stated = _REPEATS.match(part)
        if stated:
            return int(stated[1])
    return None


def _about_repeats(repeats: Sequence[int]) -> Iterator[Finding]:
    counts = Counter(repeats)
    if len(counts) > 1:  # one number for all changes nothing
        said = ", ".join(f"{count} pictures {number} times" for number, count in counts.most_common())
        reason = f"folders are named like 10_name, so an epoch shows {said}"
        yield notes(
            "folder-repeats", "", reason, "set data.repeats, or rename the folders, if the numbers mean no repeats"
        )


def _unreadable(root: Path, one: Seen) -> Finding:
    assert one.refused is not None
    reason = str(one.refused).replace(str(root / one.file), "it")
    return blocks("image-unreadable", one.file, reason, one.refused.hint)


def _excluded(file: str, where: str) -> Finding:
    return notes("image-excluded", file, f"{where} excludes it from training", "remove the mark to train on it")


# What the loader noted -> severity, reason, remedy
_NOTES: dict[str, tuple[Severity, str, str]] = {
    "cut-short": (
        "warns",
        "its last rows are the plain grey that stands where the file of a JPEG is damaged",
        "look at it; if a part is missing, copy or export it again from the original",
    ),
    "blank": (
        "warns",
        "it is one plain colour all over",
        "export it again, or leave it out: there is nothing to learn",
    ),
    "animated": ("notes", "it has several frames or pages; only the first is used", "save the one you want as PNG"),
    "transparent": (
        "notes",
        "it has transparent parts; they show the background colour",
        "choose the background colour, or fill the picture yourself",
    ),
    "sixteen-bit": ("notes", "its 16 bits per channel become 8", "nothing: training uses 8 bits"),
    "exif-broken": (
        "notes",
        "its EXIF data is damaged, so it may not be turned upright",
        "look at it; if it lies on its side, turn and save it",
    ),
    "icc-broken": (
        "warns",
        "its colour profile is damaged; the colours are read as sRGB and may be off",
        "export it again as sRGB",
    ),
    "cmyk-without-profile": (
        "warns",
        "it is CMYK without a colour profile, so its colours are a guess",
        "export it as sRGB from the program that made it",
    ),
}
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff", ".dng", ".nef"},
    "BMP": {".bmp", ".dib"},
    "AVIF": {".avif"},
}


def _about(one: Seen) -> Iterator[Finding]:
    for note in one.notes:
        severity, reason, remedy = _NOTES[note]
        yield Finding(code=f"image-{note}", severity=severity, file=one.file, reason=reason, remedy=remedy)
    if PurePosixPath(one.file).suffix.lower() not in _SUFFIXES[one.format]:
        remedy = "nothing; rename it if other programs stumble"
        yield notes("image-misnamed", one.file, f"it is a {one.format} by content and read as such", remedy)
    if min(one.size) < _TINY:
        width, height = one.size
        remedy = "use a larger version, or remove it"
        yield warns("image-tiny", one.file, f"it has only {width} x {height} pixels", remedy)
