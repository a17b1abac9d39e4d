"""Find captions beside the images and decode them, or say exactly which byte of which file is wrong.

Sources, first match wins: `name.txt`, `name.caption`, `name.jpg.txt`, then the picture's row in a metadata file, then a
row for its whole folder (see metadata.py). A file that is spelt exactly as its picture comes before one whose accents
are stored in another way. Several lines in one sidecar become one caption, joined by ", ": tools disagree here (first
line only, a random line, all lines), and joining is the one reading that loses nothing; it is reported.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from datasets_tools.errors import DatasetError
from datasets_tools.finding import Finding, blocks, notes, warns
from datasets_tools.manifest import Rights
from datasets_tools.metadata import is_metadata, read_metadata
from datasets_tools.text import Spellings, decode, decode_text, refuse_large, tidy

__all__ = [
    "SIDECARS",
    "Caption",
    "CaptionTable",
    "Captioner",
    "Captions",
    "decode_text",
    "find_captions",
    "tidy",
    "with_trigger",
]

SIDECARS = (".txt", ".caption")
_NOT_CAPTIONS = {"readme", "license", "licence", "notice", "copying"}
_PLACEHOLDER = re.compile(r"\[trigger\]", re.IGNORECASE)


class Captioner(Protocol):
    """A way to caption a picture that has no caption. Found by name in `datasets_tools.captioners`."""

    @property
    def name(self) -> str:
        """Return the name that `captioner` takes."""
        ...

    def caption(self, file: Path) -> str:
        """Return a caption for the image file, or "" where it has nothing to say."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A caption before the trigger, with the file it came from (relative, POSIX)."""

    text: str
    source: str


class CaptionTable(Mapping[str, Caption]):
    """Captions by picture. A source is kept only where it is not the picture's name with .txt: 100 bytes less each."""

    def __init__(self, captions: Iterable[tuple[str, Caption]] = ()) -> None:
        self._texts: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        for image, caption in captions:
            self.setdefault(image, caption)

    def setdefault(self, image: str, caption: Caption) -> Caption:
        """Keep the caption of a picture that has none yet, and return the one that it has."""
        if image in self._texts:
            return self[image]
        self._texts[image] = caption.text
        if caption.source != _beside(image):
            self._sources[image] = caption.source
        return caption

    def __getitem__(self, image: str) -> Caption:
        return Caption(text=self._texts[image], source=self._sources.get(image) or _beside(image))

    def __contains__(self, image: object) -> bool:
        return image in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The captions of a folder and what its metadata states, by image; and what was found on the way.

    `excluded` maps the pictures that are to be left out to the row that says so ("metadata.csv, line 3").
    """

    by_image: Mapping[str, Caption]
    rights: Mapping[str, Rights]
    findings: tuple[Finding, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Search:
    """The state of one search through a folder."""

    folder: Path
    found: CaptionTable = field(default_factory=CaptionTable)
    findings: list[Finding] = field(default_factory=list)


def find_captions(folder: Path, images: Sequence[str], texts: Sequence[str]) -> Captions:
    """Match the text files of a folder with its images; both are relative POSIX names.

    Never raises for a bad file: that becomes a finding, and the rest goes on.
    """
    search = _Search(folder=folder)
    _take_sidecars(search, images, [text for text in texts if PurePosixPath(text).suffix.lower() in SIDECARS])
    stated = {text: content for text in texts if is_metadata(text) if (content := _read(search, text)) is not None}
    metadata = read_metadata(stated, images)
    for image, candidates in metadata.captions.items():
        for text, file in candidates:
            _take(search, image, Caption(text=text, source=file))
    for image, (text, file) in metadata.defaults.items():
        search.found.setdefault(image, Caption(text=text, source=file))
    return Captions(
        by_image=search.found,
        rights=metadata.rights,
        findings=(*search.findings, *metadata.findings),
        excluded=metadata.excluded,
    )


def with_trigger(caption: str, trigger: str) -> str:
    """Return the caption with the trigger word in it, first and once.

    `[trigger]` in the caption is replaced in its place; a caption that holds the trigger as a word already is left
    alone; an empty one becomes the trigger alone.
    """
    trigger = trigger.strip()
    if _PLACEHOLDER.search(caption):
        return _without_gaps(_PLACEHOLDER.sub(lambda _: trigger, caption))
    if not trigger or re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def _without_gaps(text: str) -> str:
    """Close the gap that an empty trigger leaves: "[trigger], a cat" becomes "a cat"."""
    parts = [" ".join(part.split()) for part in text.split(",")]
    return ", ".join(part for part in parts if part)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _beside(image: str) -> str:
    """Return the name that its caption usually has."""
    return f"{image[: len(image) - len(PurePosixPath(image).suffix)]}.txt"


class _Owners:
    """Finds the pictures that a sidecar may belong to, by its name without its ending."""

    def __init__(self, images: Sequence[str]) -> None:
        self._names = Spellings(images)
        self._by_stem: dict[str, list[str]] = {}
        for image in images:
            self._by_stem.setdefault(_stem(image), []).append(image)
        self._stems = Spellings(self._by_stem)

    def of(self, stem: str) -> tuple[tuple[bool, bool], Sequence[str]]:
        """Return the pictures after their rank: spelt alike first, and `name.jpg.txt` after `name.txt`."""
        name, shared = self._names.find(stem), self._stems.find(stem)
        if name is not None and (name == stem or shared != stem):
            return (name != stem, True), [name]
        return (shared != stem, False), [] if shared is None else self._by_stem[shared]


def _take_sidecars(search: _Search, images: Sequence[str], sidecars: Sequence[str]) -> None:
    owners = _Owners(images)
    ordered = sorted(sidecars, key=lambda file: (SIDECARS.index(PurePosixPath(file).suffix.lower()), file))
    for file in sorted(ordered, key=lambda file: owners.of(_stem(file))[0]):
        stem = _stem(file)
        _, pictures = owners.of(stem)
        if not pictures and PurePosixPath(stem).name.lower() in _NOT_CAPTIONS:
            continue
        if not pictures:
            search.findings.append(_orphan(file))
            continue
        text = _read(search, file)
        if text is not None:
            for image in pictures:
                _take(search, image, Caption(text=tidy(text), source=file))
            _note_lines(search, file, text)


def _read(search: _Search, file: str) -> str | None:
    path = search.folder / file
    try:
        if not is_metadata(file):
            refuse_large(path.stat().st_size, file)
        decoded = decode(path.read_bytes(), file)
        if decoded.guessed:
            search.findings.append(_guessed(file, decoded.text))
        return decoded.text
    except DatasetError as error:
        search.findings.append(blocks("caption-unreadable", file, str(error), error.hint))
    except OSError as error:
        search.findings.append(blocks("caption-unreadable", file, f"{file}: {error.strerror}", "allow reading it"))
    return None


def _take(search: _Search, image: str, caption: Caption) -> None:
    first = search.found.setdefault(image, caption)
    if first.text != caption.text and first.source == caption.source:
        reason = f"two rows of {first.source} say different things; the first is used"
        search.findings.append(warns("caption-conflict", image, reason, "delete the wrong row"))
    elif first.text != caption.text:
        search.findings.append(
            warns(
                "caption-conflict",
                image,
                f"{first.source} and {caption.source} say different things; {first.source} is used",
                f"delete the wrong one of {first.source} and {caption.source}",
            )
        )


def _note_lines(search: _Search, file: str, text: str) -> None:
    lines = sum(bool(line.strip()) for line in text.splitlines())
    if lines > 1:
        search.findings.append(
            notes(
                "caption-lines",
                file,
                f"{lines} lines are read as one caption, joined by commas",
                "keep one line per file if only one of them is meant",
            )
        )


def _guessed(file: str, text: str) -> Finding:
    words = [word for word in re.findall(r"[\w’]+", text) if not word.isascii()] or [text]
    reason = f'it is not UTF-8 and is read as western European (Windows-1252), such as "{words[0][:40]}"'
    return notes("caption-encoding", file, reason, "save it as UTF-8; first mend the letters, if these are wrong")


def _orphan(file: str) -> Finding:
    reason = f"{file} has no picture of the same name"
    return warns("caption-orphan", file, reason, "rename it like its picture, or delete it")
