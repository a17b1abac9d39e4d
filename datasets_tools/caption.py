"""Find captions beside the images and decode them, or say exactly which byte of which file is wrong.

Sources, first match wins: `name.txt`, `name.caption`, `name.jpg.txt`, `metadata.jsonl`, `metadata.csv`. Several lines
in one sidecar become one caption, joined by ", ": tools disagree here (first line only, a random line, all lines), and
joining is the one reading that loses nothing; it is reported.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from datasets_tools.errors import DatasetError, InvalidManifest, UnreadableCaption
from datasets_tools.finding import Finding, blocks, notes, warns
from datasets_tools.manifest import Rights, leaves
from datasets_tools.storage import human_bytes

__all__ = ["Caption", "Captioner", "Captions", "decode_text", "find_captions", "tidy", "with_trigger"]

SIDECARS = (".txt", ".caption")
METADATA = ("metadata.jsonl", "metadata.csv")
# Longer than any encoder reads by far (77 tokens, T5 512); more is a wrong file, not a caption.
_MAX_BYTES = 65_536
_NOT_CAPTIONS = {"readme", "license", "licence", "notice", "copying"}
_CAPTION_KEYS = ("text", "caption", "prompt")
_PLACEHOLDER = re.compile(r"\[trigger\]", re.IGNORECASE)
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_CP1252_SIGNS = set("€‚„…†‡‰‹›‘’“”•–—˜™ ¡¢£¥§©«®°±²³µ·¹º»¼½¾¿×÷")


class Captioner(Protocol):
    """A way to caption a picture that has no caption. Found by name in `datasets_tools.captioners`."""

    @property
    def name(self) -> str:
        """Return the name that `captioner` takes."""
        ...

    def caption(self, file: Path) -> str:
        """Return a caption for the image file, or "" where it has nothing to say."""
        ...


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption before the trigger, with the file it came from (relative, POSIX)."""

    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The captions of a folder and the rights stated in its metadata, by image; and what was found on the way."""

    by_image: Mapping[str, Caption]
    rights: Mapping[str, Rights]
    findings: tuple[Finding, ...]


@dataclass
class _Search:
    """The state of one search through a folder."""

    folder: Path
    images: Mapping[str, str]  # comparable name -> image
    found: dict[str, Caption] = field(default_factory=dict)
    rights: dict[str, Rights] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def find_captions(folder: Path, images: Sequence[str], texts: Sequence[str]) -> Captions:
    """Match the text files of a folder with its images; both are relative POSIX names.

    Never raises for a bad file: that becomes a finding, and the rest goes on.
    """
    search = _Search(folder=folder, images={_comparable(image): image for image in images})
    sidecars = [text for text in texts if PurePosixPath(text).suffix.lower() in SIDECARS]
    _take_sidecars(search, sidecars)
    for name in METADATA:
        for text in texts:
            if PurePosixPath(text).name.lower() == name:
                _take_metadata(search, text)
    return Captions(by_image=search.found, rights=search.rights, findings=tuple(search.findings))


def decode_text(data: bytes, file: Path | str) -> str:
    """Decode a text file: UTF-8, UTF-16 or UTF-32 by their marks, Windows-1252 where that is plausible.

    Raises UnreadableCaption with the file and the byte offset.
    """
    _refuse_large(len(data), file)
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], encoding, file, len(mark))
    if b"\0" in data:
        raise UnreadableCaption(
            f"{file} has a NUL byte at offset {data.index(0)}: it is not text, or UTF-16 without its mark",
            hint="save it as UTF-8",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if _plausible_cp1252(data):
            return data.decode("cp1252")
        raise _undecodable(file, "UTF-8", error.start) from error


def tidy(text: str) -> str:
    """Return the text as one line: lines joined by ", ", white space and control characters as single spaces."""
    lines = [" ".join(_printable(line).split()) for line in text.splitlines()]
    joined = ""
    for line in filter(None, lines):
        joined += (" " if joined.endswith((",", ".", ";", "!", "?")) else ", " if joined else "") + line
    return joined


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


def _refuse_large(size: int, file: Path | str) -> None:
    if size > _MAX_BYTES and Path(file).suffix.lower() in SIDECARS:
        raise UnreadableCaption(
            f"{file} is {human_bytes(size)} large; a caption has at most {human_bytes(_MAX_BYTES)}",
            hint="check that it is the caption of this picture",
        )


def _without_gaps(text: str) -> str:
    """Close the gap that an empty trigger leaves: "[trigger], a cat" becomes "a cat"."""
    parts = [" ".join(part.split()) for part in text.split(",")]
    return ", ".join(part for part in parts if part)


def _printable(line: str) -> str:
    return "".join(" " if unicodedata.category(sign) in {"Cc", "Cs"} else sign for sign in line.replace("\ufeff", ""))


def _decoded(data: bytes, encoding: str, file: Path | str, skipped: int) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(file, encoding.upper(), skipped + error.start) from error
    if "\0" in text:
        offset = skipped + len(text[: text.index("\0")].encode(encoding))
        raise UnreadableCaption(f"{file} has a NUL character at offset {offset}", hint="save it as UTF-8")
    return text


def _undecodable(file: Path | str, encoding: str, offset: int) -> UnreadableCaption:
    return UnreadableCaption(f"{file} is not {encoding}: byte {offset} does not fit", hint="save it as UTF-8")


def _plausible_cp1252(data: bytes) -> bool:
    """Say whether the text reads as western European: few special letters, never many in a row.

    Shift-JIS and other encodings also decode as Windows-1252, into noise such as "ƒeƒXƒg"; that would be trained on.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    special = [sign for sign in text if ord(sign) > 127]
    latin = all(
        sign in _CP1252_SIGNS or (sign.isalpha() and ord(sign) >= 0xC0) or sign in "ŠšŽžŒœŸªÿ" for sign in special
    )
    crowded = re.search(r"[^\x00-\x7f]{3,}", text) is not None
    return latin and not crowded and len(special) <= 0.25 * len(text)


def _comparable(name: str) -> str:
    """Return a name for matching: macOS writes decomposed accents, and suffixes differ in case."""
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return str(PurePosixPath(_comparable(name)).with_suffix(""))


def _take_sidecars(search: _Search, sidecars: Sequence[str]) -> None:
    by_stem: dict[str, list[str]] = {}
    for comparable, image in search.images.items():
        by_stem.setdefault(_stem(comparable), []).append(image)
    ordered = sorted(sidecars, key=lambda file: (SIDECARS.index(PurePosixPath(file).suffix.lower()), file))
    for file in sorted(ordered, key=lambda file: _stem(file) in search.images):  # name.jpg.txt comes after name.txt
        stem = _stem(file)
        owners = [search.images[stem]] if stem in search.images else by_stem.get(stem, [])
        if not owners and PurePosixPath(stem).name.lower() in _NOT_CAPTIONS:
            continue
        if not owners:
            search.findings.append(_orphan(file))
            continue
        text = _read(search, file)
        if text is not None:
            for image in owners:
                _take(search, image, Caption(text=tidy(text), source=file))
            _note_lines(search, file, text)


def _read(search: _Search, file: str) -> str | None:
    path = search.folder / file
    try:
        _refuse_large(path.stat().st_size, file)
        return decode_text(path.read_bytes(), file)
    except DatasetError as error:
        search.findings.append(blocks("caption-unreadable", file, str(error), error.hint))
    except OSError as error:
        search.findings.append(blocks("caption-unreadable", file, f"{file}: {error.strerror}", "allow reading it"))
    return None


def _take(search: _Search, image: str, caption: Caption) -> None:
    first = search.found.setdefault(image, caption)
    if first is not caption and first.text != caption.text:
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


def _take_metadata(search: _Search, file: str) -> None:
    text = _read(search, file)
    if text is None:
        return
    rows = _jsonl_rows(text, file) if file.lower().endswith(".jsonl") else _csv_rows(text, file)
    try:
        for where, row in rows:
            _take_row(search, file, where, row)
    except InvalidManifest as error:
        search.findings.append(blocks("metadata-invalid", file, str(error), error.hint))


def _jsonl_rows(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{file}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidManifest(f"{where} is not JSON: {error}", hint="one object per line") from error
            if not isinstance(row, dict):
                raise InvalidManifest(f"{where} is not an object", hint=_ROW_HINT)
            yield where, row


def _csv_rows(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets in half of Europe export semicolons
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            yield f"{file}, line {reader.line_num}", {str(key).strip(): value for key, value in row.items()}
    except csv.Error as error:
        raise InvalidManifest(f"{file}, line {reader.line_num}: {error}", hint=_ROW_HINT) from error


_ROW_HINT = 'a row has "file_name" and one of "text", "caption", "prompt"'


def _take_row(search: _Search, file: str, where: str, row: Mapping[str, Any]) -> None:
    name = row.get("file_name") or row.get("file")
    if not isinstance(name, str):
        raise InvalidManifest(f"{where} has no file_name", hint=_ROW_HINT)
    texts = [row[key] for key in _CAPTION_KEYS if row.get(key) is not None]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidManifest(f"{where}: the caption is not text", hint=_ROW_HINT)
    if any(len(text) > _MAX_BYTES for text in texts):
        raise InvalidManifest(f"{where}: the caption is longer than {_MAX_BYTES} characters", hint=_ROW_HINT)
    relative = name.replace("\\", "/")
    inside = str(PurePosixPath(file).parent / relative)
    image = None if leaves(relative) else search.images.get(_comparable(inside))
    if image is None:
        search.findings.append(_orphan(file, f"{where} names {name!r}, which is not among the pictures"))
        return
    stated = {"licence": row.get("license"), **row}
    rights = {key: tidy(str(stated[key])) for key in Rights.__dataclass_fields__ if stated.get(key)}
    if rights:
        search.rights[image] = Rights(**rights)
    if texts:
        _take(search, image, Caption(text=tidy(texts[0]), source=file))


def _orphan(file: str, reason: str = "") -> Finding:
    return warns(
        "caption-orphan",
        file,
        reason or f"{file} has no picture of the same name",
        "rename it like its picture, or delete it",
    )
