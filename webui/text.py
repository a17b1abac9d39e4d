"""Every string of the studio, in each language: strings/PAGE.toml holds a table per string with a line per language."""

import re
import tomllib
from functools import cache
from pathlib import Path

__all__ = ["LANGUAGES", "Text", "catalogue", "language_of"]

LANGUAGES = {"en": "English", "de": "Deutsch"}

_FOLDER = Path(__file__).parent / "strings"


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Return key -> language -> string; a key is PAGE.NAME."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        for name, strings in tomllib.loads(path.read_text("utf-8")).items():
            found[f"{path.stem}.{name}"] = {language: strings[language].strip() for language in LANGUAGES}
    return found


class _Count(int):
    """A number whose format names what it counts: `{n} {n:picture|pictures}`."""

    def __format__(self, said: str) -> str:
        one, counts, many = said.partition("|")
        return (one if self == 1 else many) if counts else super().__format__(said)


class Text:
    """The strings of one language. Call with a key and what stands in its braces; see `_Count` for plurals."""

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, /, **values: object) -> str:
        text = catalogue()[key][self.language]
        counted = {key: _Count(each) if type(each) is int else each for key, each in values.items()}
        return text.format(**counted) if counted else text

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number as this language writes it: 1,234.5 or 1.234,5."""
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "de" else text

    def clock(self, seconds: float) -> str:
        """Return a time that is left in words that suit its length."""
        if seconds < 90:
            return self("common.seconds", n=max(1, round(seconds)))
        if seconds < 5400:
            return self("common.minutes", n=round(seconds / 60))
        return self("common.hours", n=self.number(seconds / 3600, 1))

    def day(self, when: str) -> str:
        """Return the day and minute of an ISO time."""
        date, _, rest = when.partition("T")
        year, month, day = date.split("-")
        return f"{day}.{month}.{year} {rest[:5]}" if self.language == "de" else f"{date} {rest[:5]}"


def language_of(header: str, chosen: str = "") -> str:
    """Return the language that a user chose, else the first of Accept-Language that there is, else English."""
    wanted = [chosen, *re.findall(r"([a-zA-Z]{2})(?:-[^,;]*)?", header)]
    return next((each.lower() for each in wanted if each.lower() in LANGUAGES), "en")
