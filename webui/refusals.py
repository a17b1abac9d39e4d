"""Refusals in the language of a page.

They are raised as English sentences, which REST, the command line and logs keep; many come from other processes as
text. strings/refusals.toml holds each with places in braces and says it in every language. A sentence that is told on a
page is known again by its words; the more of its letters an entry spells out, the earlier it is tried.
"""

import logging
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import takewhile

from webui.text import Text, catalogue

__all__ = ["as_sentence", "refusal"]

LONGEST = 1000
"""Letters of a sentence; what is longer is output of a program, and stays as it is."""

DEEPEST = 4
"""Reasons inside of reasons."""

_log = logging.getLogger("webui")

_WORDS: Mapping[str, str] = {
    "role": "settings.role_",
    "stage": "common.",
    "stages": "common.",
    "now": "common.",
    "moves": "common.",
    "why": "common.",
    "state": "jobs.",
    "lacking": "review.check_",
    "by": "create.axis_",
    "aspect": "review.aspect_",
    "field": "fields.",
    "fields": "datasets.",
}
"""Place in a sentence -> what the keys of its words begin with. A number at the end of the name does not matter."""

_NEAR = r"(?P<near>(?:did you mean [^?]*\? )?)"
_CLOSED = {"kind", "how"}
"""Places of sentences with few words of their own, which are known only with a known sentence in them."""


@dataclass(frozen=True)
class _Entry:
    """A sentence of the catalogue. `spelt` is its longest piece without a place, which says quickly that it is not."""

    key: str
    spelt: str
    pattern: re.Pattern[str]


def refusal(t: Text, text: str) -> str:
    """Return a sentence of `t`'s language for an English one; one that is not known stays as it is."""
    if t.language == "en" or not text.strip() or len(text) > LONGEST:
        return text
    told = _told(t.language, text, 0)
    if told is None:
        _log.debug("no %s for: %s", t.language, text)
    return text if told is None else told


def as_sentence(text: str) -> str:
    """Return a text with a full stop and, where it does not begin with a file or a reference, a capital."""
    if not text:
        return ""
    begun = text[:1].upper() + text[1:] if re.match(r"[^\W\d_]+[ ,:]", text) else text
    return begun + ("" if text.endswith((".", "!", "?", ":")) else ".")


@lru_cache(maxsize=4096)
def _told(language: str, text: str, depth: int) -> str | None:
    if depth > DEEPEST:
        return None
    if several := _several(language, text, depth):
        return several
    for entry in _entries():
        found = entry.pattern.fullmatch(text) if entry.spelt in text else None
        if found:
            values = {name: _put(language, name, value, depth) for name, value in found.groupdict().items()}
            if all(values[name] != found[name] for name in _CLOSED & values.keys()):
                return catalogue()[entry.key][language].format(**values)
    return _about(language, text, depth)


def _several(language: str, text: str, depth: int) -> str | None:
    """Return several sentences or words, where each is known."""
    for between, gap in (("; ", "; "), (" and ", f" {catalogue()['common.and'][language]} "), (", ", ", ")):
        parts = text.split(between)
        told = [*takewhile(bool, (_told(language, each, depth + 1) for each in parts if len(parts) > 1))]
        if told and len(told) == len(parts):
            return (" " if str(told[0]).endswith(".") else gap).join(str(each) for each in told)
    return None


def _about(language: str, text: str, depth: int) -> str | None:
    """Return a sentence with the file or the setting that it is about before it."""
    place, colon, rest = text.partition(": ")
    told = _told(language, rest, depth + 1) if colon else None
    return None if told is None else f"{place}: {told}"


def _put(language: str, name: str, value: str, depth: int) -> str:
    """Return what stands in a place: words of the catalogue or a sentence in the language, anything else as it is."""
    bare = value.strip()
    if not bare:
        return value
    words = _WORDS.get(name.rstrip("0123456789"))
    told = _listed(language, words, bare) if words else None
    told = told or _told(language, bare, depth + 1)
    return value if told is None else value.replace(bare, told)


def _listed(language: str, prefix: str, value: str) -> str | None:
    """Return one word of the catalogue, or several with commas or "or" between them; None where one is not there."""
    parts = re.split(r"(, | or )", value)
    keys = [f"{prefix}{part.replace(' ', '_')}" for part in parts[::2]]
    if any(key not in catalogue() for key in keys):
        return None
    or_ = catalogue()["common.or"][language]
    between = [", " if part == ", " else f" {or_} " for part in parts[1::2]]
    told = [catalogue()[key][language] for key in keys]
    return "".join(word + gap for word, gap in zip(told, [*between, ""], strict=True))


@cache
def _entries() -> tuple[_Entry, ...]:
    found = []
    for key, strings in catalogue().items():
        if key.startswith("refusals."):
            pieces = list(string.Formatter().parse(strings["en"]))
            found.append((sum(len(piece) for piece, *_ in pieces), _entry(key, pieces)))
    return tuple(entry for _, entry in sorted(found, key=lambda each: -each[0]))


def _entry(key: str, pieces: list[tuple[str, str | None, str | None, str | None]]) -> _Entry:
    pattern, seen = "", set[str]()
    for piece, name, *_ in pieces:
        pattern += re.escape(piece)
        if name is not None:
            pattern += f"(?P={name})" if name in seen else _NEAR if name == "near" else f"(?P<{name}>.*?)"
            seen.add(name)
    return _Entry(key, max((piece for piece, *_ in pieces), key=len), re.compile(pattern, re.DOTALL))
