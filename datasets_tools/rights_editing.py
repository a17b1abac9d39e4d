"""State who allows the use of pictures: rows of rights.csv, changed so that it can be undone.

What is said of all pictures is one row for `*`; a picture gets a row of its own where it differs from that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from datasets_tools.errors import InvalidSetting
from datasets_tools.listing import Listing, list_folder
from datasets_tools.manifest import Rights
from datasets_tools.metadata import Metadata, is_metadata, meant, read_metadata, statement_of, targets
from datasets_tools.rows import Row, change_rows, read_rows
from datasets_tools.text import Decoded, decode, tidy
from datasets_tools.undo import Entry, change_files, locked

__all__ = ["StatedRights", "set_rights"]

_FILE = "rights.csv"
_FIELDS = tuple(field.name for field in fields(Rights))
_HEADER = ",".join(("file_name", *_FIELDS)) + "\n"
_LONGEST = 1_000  # signs of one field: a sentence and an address, no contract
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORMULA = re.compile(r"=|[+\-@].*[(|!]")  # what a spreadsheet would run; "@name" and "+49 ..." are text


@dataclass(frozen=True, kw_only=True)
class StatedRights:
    """What was stated. `entry` is its place in the history, None where nothing had to change.

    `files` are the pictures that it is about, `rights` what now holds for each of them.
    """

    entry: Entry | None
    files: tuple[str, ...]
    rights: Mapping[str, Rights]


def set_rights(
    folder: Path | str,
    *,
    files: Sequence[str] | None = None,
    owner: str | None = None,
    licence: str | None = None,
    source: str | None = None,
    consent: str | None = None,
    expires: str | None = None,
    when: str = "",
) -> StatedRights:
    """State rights of pictures in the folder's rights.csv, which is made where it is absent.

    Args:
        files: relative names; None means all pictures, those that are added later included.
        owner, licence, source, consent: free text of one line; None leaves what is stated, "" takes it back.
        expires: the last day of use, YYYY-MM-DD.
        when: the time as the history shall tell it.

    Raises InvalidSetting for a name that is no picture, a value that cannot be stated, and where a value to be taken
    back is stated elsewhere too; InvalidManifest for a rights.csv that cannot be read. Then nothing has changed.
    """
    given = {"owner": owner, "licence": licence, "source": source, "consent": consent, "expires": expires}
    wanted = {key: _checked(key, value) for key, value in given.items() if value is not None}
    if not wanted:
        raise InvalidSetting("nothing is stated", hint=f"give one of {', '.join(_FIELDS)}")
    if files is not None and not files:
        raise InvalidSetting("no picture is named", hint="name some, or leave the names out for all pictures")
    folder = Path(folder)
    with locked(list_folder(folder).folder):
        table = _Table.read(list_folder(folder))
        chosen = table.chosen(files)
        text = table.stated(chosen, wanted, everywhere=files is None)
        about = "all pictures" if files is None else f"{len(chosen)} picture{'s' if len(chosen) > 1 else ''}"
        what = f"state {', '.join(wanted)} of {about}"
        entry = change_files(folder, [{table.file: table.old.encoded(text)}], what=[what], when=when)
    rights = table.metadata(text).rights
    return StatedRights(entry=entry, files=chosen, rights={file: rights.get(file, Rights()) for file in chosen})


def _checked(key: str, value: str) -> str:
    text = meant(key, tidy(value))
    if len(text) > _LONGEST:
        raise InvalidSetting(f"{key} has {len(text)} signs, more than {_LONGEST}", hint="name the contract instead")
    if _FORMULA.match(text):
        raise InvalidSetting(f"{key} {text[:30]!r} is a formula to spreadsheets", hint="write it as plain words")
    if key == "expires" and text and not _is_day(text):
        raise InvalidSetting(f"expires {text[:30]!r} is no day", hint="write it as YYYY-MM-DD, such as 2030-12-31")
    return text


def _is_day(text: str) -> bool:
    from datetime import date

    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _DAY.fullmatch(text) is not None  # fromisoformat also takes 20301231


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The rights.csv of a folder among its other metadata files."""

    listing: Listing
    file: str
    old: Decoded
    others: Mapping[str, str]

    @classmethod
    def read(cls, listing: Listing) -> "_Table":
        file = next((text for text in listing.texts if text.lower() == _FILE), _FILE)
        data = (listing.folder / file).read_bytes() if file in listing.texts else b""
        others = [text for text in listing.texts if is_metadata(text) and text != file]
        return cls(
            listing=listing,
            file=file,
            old=decode(data, file),
            others={text: decode((listing.folder / text).read_bytes(), text).text for text in others},
        )

    def chosen(self, files: Sequence[str] | None) -> tuple[str, ...]:
        if files is None:
            return self.listing.pictures
        unknown = next((file for file in files if file not in self.listing.pictures), None)
        if unknown is not None:
            reason = f"{unknown} is not a picture of {self.listing.folder.name}"
            raise InvalidSetting(reason, hint="give names relative to the folder")
        return tuple(dict.fromkeys(files))

    def metadata(self, text: str) -> Metadata:
        return read_metadata({**self.others, self.file: text}, self.listing.pictures)

    def stated(self, chosen: Sequence[str], wanted: Mapping[str, str], *, everywhere: bool) -> str:
        """Return the table's text in which exactly `wanted` holds for the chosen pictures."""
        text = self.old.text if self.old.text.strip() else _HEADER
        if everywhere:
            text = self._with(text, ["*"], wanted)
        wrong = self._wrong(text, chosen, wanted)
        if wrong:
            text = self._with(text, wrong, wanted)
            self._require(text, wrong, wanted)
        return text

    def _wrong(self, text: str, chosen: Sequence[str], wanted: Mapping[str, str]) -> list[str]:
        """Return the pictures for which something else holds."""
        rights = self.metadata(text).rights
        return [file for file in chosen if not wanted.items() <= asdict(rights.get(file, Rights())).items()]

    def _with(self, text: str, names: Sequence[str], wanted: Mapping[str, str]) -> str:
        """Return the text with values in the rows of some targets; those without a row get one."""
        known = targets([*self.listing.pictures])
        rows: dict[str, list[Row]] = {}
        for row in read_rows(text, self.file):
            target = known.find(*statement_of(self.file, row, []).names)
            if target is not None:
                rows.setdefault(target, []).append(row)
        changes = {row.first: _values(row, wanted) for name in names for row in rows.get(name, ())}
        more = [{"file_name": name, **wanted} for name in names if name not in rows]
        return change_rows(text, self.file, changes, more)

    def _require(self, text: str, chosen: Sequence[str], wanted: Mapping[str, str]) -> None:
        """Raise InvalidSetting where something that is taken back is stated by another row or file too."""
        for file in self._wrong(text, chosen, wanted):
            now = asdict(self.metadata(text).rights.get(file, Rights()))
            key = next(key for key, value in wanted.items() if now[key] != value)
            reason = f"the {key} of {file} is also stated for all pictures or in another file: {now[key]}"
            raise InvalidSetting(reason, hint="change it for all pictures, or in metadata.jsonl or metadata.csv")


def _values(row: Row, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return the new values of a row; a column that is spelt `license` gives way to `licence`."""
    american = {"license": ""} if "licence" in wanted and row.values.get("license") else {}
    return {**wanted, **american}
