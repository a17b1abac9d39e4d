"""Look at every file of a folder in full: what is a picture, what is broken, what is there twice.

A broken file is a finding and never stops the rest. Decoding and hashing release the interpreter lock, so threads use
all cores; processes would need the caller's script to be importable.
"""

import difflib
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datasets_tools.caption import SIDECARS, Captions, find_captions, with_trigger
from datasets_tools.errors import NoImages, UnreadableImage
from datasets_tools.finding import Finding, Severity, blocks, notes, warns
from datasets_tools.manifest import Manifest, Record, name_order
from datasets_tools.sniff import PICTURE_SUFFIXES, kind_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from datasets_tools.image import Colour, Limits

__all__ = ["Progress", "Scan", "scan"]

Progress = Callable[[int, int], None]
"""Called with (done, total) after each picture, in the thread that called scan."""

_IGNORED = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "manifest.jsonl", "icon\r"}
_TEXTS = (*SIDECARS, ".jsonl", ".csv")
_TINY = 32  # pixels of the shorter side: less than an icon; the result would be a blur at any resolution
_HASH_SIDE = 64  # the perceptual hash looks at 32 x 32
# Of 64 bits; pictures that people call the same differ in 0-4 after scaling and recompression, others in 20-40.
_ALIKE_BITS = 4
_ALIKE_COLOUR = 12  # levels of 255 of the mean colour: the hash sees no colour
_NAMED = 5  # so many files are named in a finding about several


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The pictures that can be trained on, and what was found on the way."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    captions: Captions


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the worker learned about one picture file."""

    file: str
    sha256: str = ""
    bytes: int = 0
    size: tuple[int, int] = (0, 0)
    format: str = ""
    alike: int = 0
    colour: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    refused: UnreadableImage | None = None


@dataclass(frozen=True, kw_only=True)
class _Listing:
    pictures: tuple[str, ...]
    texts: tuple[str, ...]
    others: tuple[str, ...]
    findings: tuple[Finding, ...]


def scan(
    folder: Path | str,
    *,
    trigger: str = "",
    background: "Colour" = (255, 255, 255),
    limits: "Limits | None" = None,
    on_progress: Progress | None = None,
    workers: int | None = None,
) -> Scan:
    """Read every picture of the folder and below in full, and match the captions.

    Hidden files, `__MACOSX` and the like are ignored, links that lead out are refused. The records are in name order
    whatever the file system says. Raises NoImages when the folder is missing or holds nothing that claims to be a
    picture; the hint names the likely right path.
    """
    root = _existing(Path(folder))
    listing = _listed(root)
    if not listing.pictures:
        raise _no_images(root, listing)
    seen = _look_at_all(root, listing.pictures, background, limits, on_progress, workers)
    readable = [one for one in seen if one.refused is None]
    captions = find_captions(root, listing.pictures, listing.texts)
    records = tuple(_record(one, captions, trigger) for one in readable)
    findings = [
        *listing.findings,
        *(_unreadable(root, one) for one in seen if one.refused is not None),
        *(finding for one in readable for finding in _about(one)),
        *_twins(readable),
        *_alike(readable),
        *captions.findings,
        *_leftovers(listing.others),
    ]
    return Scan(manifest=Manifest(root, records), findings=tuple(findings), captions=captions)


def _existing(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NoImages(f"{folder} is a file, not a folder", hint=f"give the folder with the pictures: {folder.parent}")
    near = _near_name(folder)
    raise NoImages(
        f"the folder {folder} does not exist",
        hint=f"did you mean {near}?" if near else "check the path and its spelling",
    )


def _near_name(folder: Path) -> Path | None:
    """Return the path with its first missing part replaced by the most similar folder beside it."""
    missing = folder
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return None
    siblings = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    lower = {name.lower(): name for name in siblings}
    near = difflib.get_close_matches(missing.name.lower(), lower, 1)
    return missing.parent / lower[near[0]] if near else None


def _listed(root: Path) -> _Listing:
    pictures: list[str] = []
    texts: list[str] = []
    others: list[str] = []
    findings: list[Finding] = []
    for file in _files(root, findings):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            pictures.append(file)
        elif suffix in _TEXTS:
            texts.append(file)
        elif _is_picture(root / file):
            pictures.append(file)
        else:
            others.append(file)
    pictures.sort(key=name_order)
    findings += _same_names(pictures)
    return _Listing(
        pictures=tuple(pictures), texts=tuple(sorted(texts)), others=tuple(sorted(others)), findings=tuple(findings)
    )


def _files(root: Path, findings: list[Finding]) -> Iterator[str]:
    inside = root.resolve()
    for parent, folders, names in os.walk(root, onerror=lambda error: findings.append(_closed(root, error))):
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for name in (*folders, *sorted(names)):
            path = Path(parent, name)
            file = path.relative_to(root).as_posix()
            if _ignored(name) or (path.is_dir() and not path.is_symlink()):
                continue
            if not _is_text(file):
                findings.append(_misspelt(file))
                continue
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(inside)):
                findings.append(_link(file))
            elif path.is_file() or path.suffix.lower() in PICTURE_SUFFIXES:
                yield file


def _is_text(file: str) -> bool:
    """Say whether a name is valid text: old archives leave names in other encodings, which no manifest can hold."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def _is_picture(path: Path) -> bool:
    """Say whether a file without a picture's name holds one: some programs save without an ending."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(64)).format not in {"", "BMP"}  # two letters prove nothing
    except OSError:
        return False


def _look_at_all(
    root: Path,
    files: Sequence[str],
    background: "Colour",
    limits: "Limits | None",
    on_progress: Progress | None,
    workers: int | None,
) -> list[_Seen]:
    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), thread_name_prefix="scan")
    try:
        seen = []
        for one in pool.map(lambda file: _look_at(root, file, background, limits), files):
            seen.append(one)
            if on_progress is not None:
                on_progress(len(seen), len(files))
        return seen
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest of the folder


def _look_at(root: Path, file: str, background: "Colour", limits: "Limits | None") -> _Seen:
    from datasets_tools.image import DEFAULT_LIMITS, open_picture, read_bytes

    limits = limits or DEFAULT_LIMITS
    try:
        data = read_bytes(root / file, limits)
        picture = open_picture(data, background=background, limits=limits, at_least=_HASH_SIDE, name="it")
    except UnreadableImage as refused:
        return _Seen(file=file, refused=refused)
    alike, colour = _impression(picture.image)
    return _Seen(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        size=picture.size,
        format=picture.format,
        alike=alike,
        colour=colour,
        notes=picture.notes,
    )


def _impression(image: "Image") -> tuple[int, tuple[float, ...]]:
    """Return the perceptual hash as an integer and the mean colour."""
    import imagehash
    import numpy as np

    mean = np.asarray(image, dtype=np.float32).mean(axis=(0, 1))
    return int(str(imagehash.phash(image)), 16), tuple(float(value) for value in mean)


def _record(one: _Seen, captions: Captions, trigger: str) -> Record:
    caption = captions.by_image.get(one.file)
    return Record(
        file=one.file,
        sha256=one.sha256,
        bytes=one.bytes,
        width=one.size[0],
        height=one.size[1],
        caption=with_trigger("" if caption is None else caption.text, trigger),
        rights=captions.rights.get(one.file),
    )


def _unreadable(root: Path, one: _Seen) -> Finding:
    assert one.refused is not None
    reason = str(one.refused).replace(str(root / one.file), "it")
    return blocks("image-unreadable", one.file, reason, one.refused.hint)


# What the loader noted -> severity, reason, remedy
_NOTES: dict[str, tuple[Severity, str, str]] = {
    "animated": ("notes", "it moves; only the first frame is used", "save the frame you want as PNG"),
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


def _about(one: _Seen) -> Iterator[Finding]:
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


def _twins(seen: Sequence[_Seen]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for one in seen:
        original = first.setdefault(one.sha256, one.file)
        if original != one.file:
            reason = f"it is the same file as {original}, which then counts twice"
            yield warns("image-duplicate", one.file, reason, "remove one of them")


def _alike(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Find near-duplicates in about linear time.

    Hashes that differ in at most 4 of 64 bits agree on at least one of five stripes (pigeonhole), so only pictures with
    an equal stripe are compared.
    """
    stripes: dict[tuple[int, int], list[_Seen]] = {}
    for one in seen:
        candidates = [other for stripe in _stripes(one.alike) for other in stripes.get(stripe, ())]
        twin = next((other for other in candidates if _is_alike(one, other)), None)
        if twin is not None:
            reason = f"it looks like {twin.file}, and the look of that picture then weighs twice"
            yield warns("image-near-duplicate", one.file, reason, "keep the better one")
            continue  # compared through its twin from here on: a burst of 1,000 stays linear
        if not any(other.sha256 == one.sha256 for other in candidates):
            for stripe in _stripes(one.alike):
                stripes.setdefault(stripe, []).append(one)


def _stripes(alike: int) -> list[tuple[int, int]]:
    return [(number, alike >> (13 * number) & 0x1FFF) for number in range(_ALIKE_BITS + 1)]


def _is_alike(one: _Seen, other: _Seen) -> bool:
    return (
        one.sha256 != other.sha256
        and (one.alike ^ other.alike).bit_count() <= _ALIKE_BITS
        and all(abs(a - b) <= _ALIKE_COLOUR for a, b in zip(one.colour, other.colour, strict=True))
        and abs(one.size[0] * other.size[1] - one.size[1] * other.size[0]) <= 0.05 * one.size[0] * other.size[1]
    )


def _same_names(files: Sequence[str]) -> Iterator[Finding]:
    """Report names that other systems take for the same file: they would overwrite each other when copied there."""
    first: dict[str, str] = {}
    for file in files:
        twin = first.setdefault(unicodedata.normalize("NFC", file).casefold(), file)
        if twin != file:
            reason = f"its name differs from {twin} only in case or in how accents are stored"
            yield warns("name-collision", file, reason, "rename one: on other systems they are one file")


def _leftovers(others: Sequence[str]) -> Iterator[Finding]:
    if others:
        named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
        reason = f"{len(others)} other file{'s are' if len(others) > 1 else ' is'} not used: {named}"
        yield notes("other-files", "", reason, "nothing, if they are not pictures")


def _link(file: str) -> Finding:
    reason = "it is a link that leads to a folder or out of this one, so it is not followed"
    return warns("link-refused", file, reason, "copy the pictures into the folder")


def _misspelt(file: str) -> Finding:
    shown = file.encode("utf-8", "replace").decode("utf-8")
    return blocks("name-undecodable", shown, "its name is not valid UTF-8", "rename it")


def _closed(root: Path, error: OSError) -> Finding:
    file = Path(error.filename).relative_to(root).as_posix()
    return blocks("folder-unreadable", file, f"it cannot be opened: {error.strerror}", "allow reading it")


def _no_images(root: Path, listing: _Listing) -> NoImages:
    """Say what is there instead, and where pictures are: the most common mistake is being one folder off."""
    archives = [file for file in listing.others if file.lower().endswith((".zip", ".7z", ".rar", ".tar.gz", ".tgz"))]
    near = [place for place in _around(root) if _has_pictures(place)]
    if archives:
        hint = f"unpack {archives[0]} first"
    elif listing.findings:
        hint = listing.findings[0].remedy
    elif near:
        hint = f"there are pictures in {near[0]}: use that folder"
    else:
        hint = "put JPEG, PNG, WebP, TIFF, BMP or AVIF files into it"
    there = len(listing.texts) + len(listing.others)
    what = f"holds {there} file{'s' if there > 1 else ''} but no picture" if there else "holds no picture"
    return NoImages(f"the folder {root} {what}", hint=hint)


def _around(root: Path) -> Iterator[Path]:
    parent = root.absolute().parent
    yield parent
    try:
        yield from sorted(entry for entry in parent.iterdir() if entry.is_dir() and entry.name != root.name)
    except OSError:
        return


def _has_pictures(folder: Path) -> bool:
    try:
        return any(entry.suffix.lower() in PICTURE_SUFFIXES for entry in folder.iterdir() if not _ignored(entry.name))
    except OSError:
        return False
