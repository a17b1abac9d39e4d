"""Rows of a metadata text (JSON lines or CSV): read with their places, and changed with all other text kept."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_tools.errors import InvalidManifest

__all__ = ["ROW_HINT", "Row", "change_rows", "read_rows"]

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
ROW_HINT = 'a row has "file_name" and what it says: "text", "owner", "licence", "exclude" ...'

_QUOTES = "a text in double quotes ends with one, and one inside of it is written twice"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its values by column, and its lines `first` to `last` in the file, counted from 1."""

    first: int
    last: int
    values: Mapping[str, Any]


def read_rows(text: str, file: str) -> Iterator[Row]:
    """Yield the rows of a text; the ending of `file` tells which kind it is. Empty lines are no rows.

    Raises InvalidManifest with the line at the first row that cannot be read; the rows before it have been yielded.
    """
    return _jsonl_rows(text, file) if _is_jsonl(file) else _csv_rows(text, file)


def change_rows(
    text: str, file: str, changes: Mapping[int, Mapping[str, Any]], more: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the text with some values of some rows changed, and with more rows at its end.

    `changes` maps a row's `first` line to its new values. A CSV gets columns it lacks. Every other line stays as it is,
    to the character. Raises InvalidManifest as read_rows does.
    """
    lines = _lines(text)
    rows = {row.first: row for row in read_rows(text, file)}
    written = _JsonlForm() if _is_jsonl(file) else _CsvForm.of(lines, file)
    for first in sorted(changes, reverse=True):  # from the end, so that the places before stay valid
        row = rows[first]
        lines[first - 1 : row.last] = [written.line({**row.values, **changes[first]}) + _ending(lines[row.last - 1])]
    if more and lines and not _ending(lines[-1]):
        lines[-1] += _newline(lines)
    lines += [written.line(values) + _newline(lines) for values in more]
    return written.with_header(lines)


def _is_jsonl(file: str) -> bool:
    return file.lower().endswith(".jsonl")


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; only CR, LF and CRLF end one (a caption may hold U+2028)."""
    return list(io.StringIO(text, newline=""))


def _ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


def _newline(lines: Sequence[str]) -> str:
    return (_ending(lines[0]) if lines else "") or "\n"


def _jsonl_rows(text: str, file: str) -> Iterator[Row]:
    for number, line in enumerate((found.group() for found in _LINE.finditer(text)), 1):  # a list would be a copy
        if line.strip():
            where = f"{file}, line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidManifest(f"{where} is not JSON: {error}", hint="one object per line") from error
            if not isinstance(values, dict):
                raise InvalidManifest(f"{where} is not an object", hint=ROW_HINT)
            yield Row(first=number, last=number, values=values)


def _csv_rows(text: str, file: str) -> Iterator[Row]:
    lines = _lines(text)
    skipped, delimiter = _layout(lines)
    reader = csv.reader(lines[skipped:], delimiter=delimiter, strict=True)  # else an open quote takes all that follows
    header: list[str] | None = None
    first = skipped + 1
    try:
        for cells in reader:
            if header is None and cells:
                header = _columns(cells)
                if twice := next((name for at, name in enumerate(header) if name and name in header[:at]), ""):
                    raise InvalidManifest(
                        f'{file}, line {first} names the column "{twice}" twice',
                        hint="rename one of them, or delete it",
                    )
            elif header is not None and any(cells):
                if any(cells[len(header) :]):
                    raise InvalidManifest(
                        f"{file}, line {first} has {len(cells)} cells, the header {len(header)}",
                        hint=f'put a text that holds "{delimiter}" into double quotes',
                    )
                values = dict(zip(header, cells, strict=False))
                yield Row(first=first, last=skipped + reader.line_num, values=values)
            first = skipped + reader.line_num + 1
    except csv.Error as error:
        raise InvalidManifest(f"{file}, line {first}: {error}", hint=_QUOTES) from error


def _columns(cells: Sequence[str]) -> list[str]:
    """Return the column names as they are compared: spreadsheets capitalise and pad them."""
    return [cell.strip().lower() for cell in cells]


def _layout(lines: Sequence[str]) -> tuple[int, str]:
    """Return how many lines are before the header, and the delimiter: half of Europe exports semicolons."""
    first = lines[0].strip() if lines else ""
    if first.lower().startswith("sep=") and len(first) == 5:  # Excel writes it for itself
        return 1, first[4]
    header = next((line for line in lines if line.strip()), "")
    return 0, max(",;\t", key=header.count)


class _JsonlForm:
    """Writes rows as JSON lines."""

    def line(self, values: Mapping[str, Any]) -> str:
        written = json.dumps(values, ensure_ascii=False)
        try:
            written.encode()
        except UnicodeEncodeError:  # a half character that came as \ud800 leaves as it came
            return json.dumps(values)
        return written

    def with_header(self, lines: Sequence[str]) -> str:
        return "".join(lines)


@dataclass
class _CsvForm:
    """Writes rows as the CSV they are in: its delimiter, its columns and those added on the way."""

    header: list[str]  # as written
    place: int  # index of the header's first line, which stays where it is: rows come after it
    height: int  # in lines
    delimiter: str
    grown: bool = False

    @classmethod
    def of(cls, lines: Sequence[str], file: str) -> "_CsvForm":
        skipped, delimiter = _layout(lines)
        reader = csv.reader(lines[skipped:], delimiter=delimiter)
        first = skipped
        for cells in reader:
            if cells:
                return cls(header=cells, place=first, height=skipped + reader.line_num - first, delimiter=delimiter)
            first = skipped + reader.line_num
        raise InvalidManifest(f"{file} has no header", hint=ROW_HINT)

    def line(self, values: Mapping[str, Any]) -> str:
        missing = [key for key in values if key not in _columns(self.header)]
        self.header += missing
        self.grown |= bool(missing)
        return self._joined([_cell(values.get(column)) for column in _columns(self.header)])

    def with_header(self, lines: list[str]) -> str:
        if self.grown:
            end = self.place + self.height
            lines[self.place : end] = [self._joined(self.header) + _ending(lines[end - 1])]
        return "".join(lines)

    def _joined(self, cells: Sequence[str]) -> str:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=self.delimiter, lineterminator="\r\n").writerow(cells)  # quotes both of its signs
        return buffer.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
