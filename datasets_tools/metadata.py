"""What metadata files state about pictures: captions, rights, and which pictures are left out.

metadata.jsonl, metadata.csv   caption ("text", "caption" or "prompt"), rights, "exclude": true
rights.csv                     owner, licence (or license), source, consent, expires

A row names one picture of its folder or of one below (`file_name`), or all of them: `*` and `sub/*` are defaults. Field
by field the most specific row that states it wins; between equals the file nearest to the top folder, rights.csv first.
A name means the picture that is called exactly so. Where there is none it is read without the spaces around it and with
backslashes as slashes, as programs on Windows write it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from datasets_tools.errors import InvalidManifest
from datasets_tools.finding import Finding, blocks, warns
from datasets_tools.manifest import Rights, leaves
from datasets_tools.rows import ROW_HINT, Row, read_rows
from datasets_tools.text import MAX_BYTES, Spellings, tidy

__all__ = [
    "CAPTION_KEYS",
    "Metadata",
    "Statement",
    "in_order",
    "is_metadata",
    "meant",
    "read_metadata",
    "statement_of",
    "targets",
]

CAPTION_KEYS = ("text", "caption", "prompt")
_FILES = ("rights.csv", "metadata.jsonl", "metadata.csv")
_RIGHTS = tuple(one.name for one in fields(Rights))
_NONE = Rights()
_YES = {"true", "yes", "y", "1", "x"}
_NO = {"false", "no", "n", "0"}
_NOBODY = {"n/a", "na", "nan", "none", "null", "nil", "tbd", "todo", "unknown", "unbekannt", "k. a.", "k.a.", "keine"}
_CAPTION_HINT = 'a row has "file_name" and one of "text", "caption", "prompt"'


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What one row says. `names` are what it may speak of, as `targets` knows it, the likeliest first."""

    file: str
    where: str
    row: Row
    names: tuple[str, ...]
    caption_key: str = ""
    caption: str | None = None
    rights: Mapping[str, str] = field(default_factory=dict)
    exclude: bool | None = None

    @property
    def is_default(self) -> bool:
        """Say whether it speaks of every picture of a folder and below."""
        return any(PurePosixPath(name).name == "*" for name in self.names)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    """What is kept of a statement while all are compared: without its row, whose values would be a kilobyte."""

    file: str
    line: int
    caption: str | None
    rights: Rights
    exclude: bool | None

    @classmethod
    def of(cls, stated: Statement, once: dict[Rights, Rights]) -> "_Said":
        rights = Rights(**stated.rights)
        return cls(
            file=stated.file,
            line=stated.row.first,
            caption=stated.caption,
            rights=once.setdefault(rights, rights),
            exclude=stated.exclude,
        )

    @property
    def where(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """All that is stated, by picture.

    `captions` holds for each picture its candidates, the first of which is meant, as (text, file); `defaults` the
    caption that a whole folder has. `excluded` says by which row a picture is left out.
    """

    captions: Mapping[str, Sequence[tuple[str, str]]]
    defaults: Mapping[str, tuple[str, str]]
    rights: Mapping[str, Rights]
    excluded: Mapping[str, str]
    findings: tuple[Finding, ...]


def is_metadata(file: str) -> bool:
    """Say whether a file is one that read_metadata reads, by its name."""
    return PurePosixPath(file).name.lower() in _FILES


def in_order(files: Iterable[str]) -> list[str]:
    """Return metadata files as they take precedence: by kind, then from the top folder down."""
    return sorted(
        files, key=lambda file: (_FILES.index(PurePosixPath(file).name.lower()), len(PurePosixPath(file).parts), file)
    )


def targets(images: Iterable[str]) -> Spellings:
    """Return everything that a row can speak of: pictures, and "*" in each of their folders and in those above."""
    return Spellings(target for image in images for target in (image, *_stars(image)))


def read_metadata(texts: Mapping[str, str], images: Sequence[str]) -> Metadata:
    """Read metadata files (relative name -> text) about images (relative names). Bad rows are findings."""
    findings: list[Finding] = []
    known = targets(images)
    rows: dict[str, list[_Said]] = {}
    once: dict[Rights, Rights] = {}  # equal ones are one: a whole set has few
    for file in in_order(texts):
        for stated in _statements(file, texts[file], findings):
            target = known.find(*stated.names)
            if target is None:
                findings.append(_orphan(stated))
            else:
                rows.setdefault(target, []).append(_Said.of(stated, once))
    captions: dict[str, Sequence[tuple[str, str]]] = {}
    defaults: dict[str, tuple[str, str]] = {}
    rights: dict[str, Rights] = {}
    excluded: dict[str, str] = {}
    for image in images if rows else ():
        own, general = rows.get(image, []), [said for star in _stars(image) for said in rows.get(star, ())]
        findings += _conflicts(image, own)
        if found := _captions(own):
            captions[image] = found
        if found := _captions(general):
            defaults[image] = found[0]
        if (merged := _rights([*own, *general])) != _NONE:
            rights[image] = once.setdefault(merged, merged)
        if row := _excluding([*own, *general]):
            excluded[image] = row.where
    return Metadata(captions=captions, defaults=defaults, rights=rights, excluded=excluded, findings=tuple(findings))


def statement_of(file: str, row: Row, findings: list[Finding] | None = None) -> Statement:
    """Return what a row of a file says; a date in another form is dropped and added to the findings.

    Raises InvalidManifest with the line for a row without a name, or with values that mean nothing.
    """
    where = f"{file}, line {row.first}"
    values = row.values
    if PurePosixPath(file).name.lower() == _FILES[0]:  # its "text" may be that of a licence
        values = {key: value for key, value in values.items() if key not in {*CAPTION_KEYS, "exclude"}}
    name = values.get("file_name") or values.get("file")
    if not isinstance(name, str):
        raise InvalidManifest(f"{where} has no file_name", hint=ROW_HINT)
    key = next((key for key in CAPTION_KEYS if values.get(key) is not None), "")
    if not isinstance(values.get(key, ""), str):
        raise InvalidManifest(f"{where}: the caption is not text", hint=_CAPTION_HINT)
    if key and len(values[key]) > MAX_BYTES:
        raise InvalidManifest(f"{where}: the caption is longer than {MAX_BYTES} characters", hint=_CAPTION_HINT)
    return Statement(
        file=file,
        where=where,
        row=row,
        names=_names(file, name),
        caption_key=key,
        caption=tidy(values[key]) if key else None,
        rights=_stated_rights(file, where, values, [] if findings is None else findings),
        exclude=_flag(values.get("exclude"), where),
    )


def _statements(file: str, text: str, findings: list[Finding]) -> Iterator[Statement]:
    try:
        for row in read_rows(text, file):
            yield statement_of(file, row, findings)
    except InvalidManifest as error:
        findings.append(blocks("metadata-invalid", file, str(error), error.hint))


def _names(file: str, name: str) -> tuple[str, ...]:
    """Return what a row's name may mean, seen from the top folder; nothing that leads out of the row's own."""
    readings = dict.fromkeys((name, name.strip().replace("\\", "/")))
    return tuple(str(PurePosixPath(file).parent / one) for one in readings if not leaves(one))


def _stated_rights(file: str, where: str, values: Mapping[str, Any], findings: list[Finding]) -> dict[str, str]:
    stated = {**values, "licence": values.get("licence") or values.get("license")}
    rights = {key: meant(key, tidy(str(stated[key]))) for key in _RIGHTS if stated.get(key)}
    expires = rights.get("expires", "")
    if expires and not _is_date(expires):
        reason = f'{where} says that the rights expire "{expires[:40]}", which is not read: dates are YYYY-MM-DD'
        findings.append(warns("rights-date", file, reason, "write it as year-month-day, such as 2030-12-31"))
        del rights["expires"]
    return {key: value for key, value in rights.items() if value}


def meant(key: str, text: str) -> str:
    """Return what a field of the rights says, "" where people only filled the cell: as an owner "-" would be one."""
    says = key == "expires" or (text.casefold() not in _NOBODY and any(map(str.isalnum, text)))
    return text if says else ""


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) is not None  # fromisoformat also takes 20301231 and week dates


def _flag(value: object, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    if not word:
        return None
    raise InvalidManifest(f'{where}: "exclude" is {value!r}', hint="write true or false, or leave it empty")


def _stars(image: str) -> list[str]:
    """Return the names of the defaults that hold for a picture, from its own folder up to the top."""
    return [str(folder / "*") for folder in PurePosixPath(image).parents]


def _captions(rows: Iterable[_Said]) -> list[tuple[str, str]]:
    return [(row.caption, row.file) for row in rows if row.caption is not None]


def _rights(rows: Sequence[_Said]) -> Rights:
    """Return each field as the first row that states it does."""
    if len(rows) == 1:
        return rows[0].rights
    stated = {key: value for row in reversed(rows) for key in _RIGHTS if (value := getattr(row.rights, key))}
    return Rights(**stated)


def _excluding(rows: Iterable[_Said]) -> _Said | None:
    decisive = next((row for row in rows if row.exclude is not None), None)
    return decisive if decisive is not None and decisive.exclude else None


def _conflicts(image: str, rows: Sequence[_Said]) -> Iterator[Finding]:
    """Report fields of the rights that two rows about the same picture state differently."""
    for key in _RIGHTS if len(rows) > 1 else ():
        stated = [row for row in rows if getattr(row.rights, key)]
        for other in stated[1:]:
            if getattr(other.rights, key) != getattr(stated[0].rights, key):
                reason = f"{stated[0].where} and {other.where} state another {key}; that of {stated[0].where} counts"
                yield warns("rights-conflict", image, reason, f"delete the wrong {key}")


def _orphan(stated: Statement) -> Finding:
    name = stated.row.values.get("file_name") or stated.row.values.get("file")
    what = "matches no picture" if stated.is_default else "is not among the pictures"
    reason = f"{stated.where} names {name!r}, which {what}"
    return warns("caption-orphan", stated.file, reason, "rename it like its picture, or delete it")
