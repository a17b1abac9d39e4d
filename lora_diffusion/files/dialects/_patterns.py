"""Regular expressions of a PEFT config, matched in a time that an evil one cannot stretch.

Python's `re` tries one way after the other, and `(a+)+b` in a file would keep it busy for years. Here each part of a
pattern maps the set of all places it can begin at to the set of all it can end at, so that no way is gone twice.
Understood is what names of modules need: literals, `.`, classes, `\\d \\w \\s` and their opposites, groups,
alternatives, `^`, `$`, and repeats, which may be lazy: for a match as a whole it makes no difference.
"""

import re
from collections.abc import Callable
from functools import cache

from lora_diffusion.errors import CorruptFile

__all__ = ["matches_end"]

_Places = frozenset[int]
_Part = Callable[[str, _Places], _Places]

_LONGEST = 1000  # characters of a pattern; a list of all 264 modules of a text encoder belongs into several patterns
_DEEPEST = 8  # groups in groups
_MOST = 100  # of a counted repeat
_REPEAT = re.compile(r"(?:(?P<sign>[*+?])|\{(?P<least>\d{1,3})(?P<comma>,(?P<most>\d{0,3}))?\})(?P<greed>[?+]?)")
_CLASS = re.compile(r"\[\^?\]?(?:\\[dwsDWS.\-_\\\]\[^]|[^\]\[\\])*\]")
_ESCAPE = re.compile(r"\\(?:[dwsDWS]|[^0-9A-Za-z])")
_SPECIAL = set("\\[(){*+?|^$.")


def matches_end(pattern: str, path: str) -> bool:
    """Say whether a pattern matches a dotted path from its beginning, or from after any of its dots, to its end.

    That is how PEFT 0.21 finds the rank and alpha of a module: re.match(rf"(.*\\.)?({pattern})$", path). Raises
    CorruptFile for a pattern that is wrong or holds what is not understood.
    """
    starts = frozenset((0, *(place + 1 for place, letter in enumerate(path) if letter == ".")))
    return len(path) in _compiled(pattern)(path, starts)


@cache
def _compiled(pattern: str) -> _Part:
    if len(pattern) > _LONGEST:
        raise _not_read(pattern)
    parser = _Parser(pattern)
    found = parser.alternatives(0)
    if parser.at < len(pattern):
        raise _not_read(pattern)
    return found


def _not_read(pattern: str) -> CorruptFile:
    return CorruptFile(
        f"the pattern {pattern[:60]!r} of the adapter configuration is not read",
        hint="name modules by their paths, or by plain regular expressions without look-around and back references",
    )


class _Parser:
    """Reads a pattern from the left; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def alternatives(self, depth: int) -> _Part:
        if depth > _DEEPEST:
            raise _not_read(self._text)
        found = [self._sequence(depth)]
        while self._next() == "|":
            self.at += 1
            found.append(self._sequence(depth))
        return lambda path, places: frozenset().union(*(each(path, places) for each in found))

    def _sequence(self, depth: int) -> _Part:
        parts: list[_Part] = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom(depth)))

        def run(path: str, places: _Places) -> _Places:
            for part in parts:
                places = part(path, places)
            return places

        return run

    def _atom(self, depth: int) -> _Part:
        letter = self._next()
        if letter == "(":
            self._take("(?:" if self._text.startswith("(?:", self.at) else "(")
            inside = self.alternatives(depth + 1)
            self._take(")")
            return inside
        if letter in "^$":
            self.at += 1
            return _at_start if letter == "^" else _at_end
        for kind in (_CLASS, _ESCAPE):
            if found := kind.match(self._text, self.at):
                self.at = found.end()
                return self._one(found[0])
        if letter in _SPECIAL - {"."}:
            raise _not_read(self._text)
        self.at += 1
        return self._one(letter)

    def _one(self, source: str) -> _Part:
        """Match one letter; only such a pattern is ever given to Python's own engine."""
        try:
            letter = re.compile(source)
        except re.error:  # a range that runs backwards
            raise _not_read(self._text) from None
        return lambda path, places: frozenset(place + 1 for place in places if letter.match(path, place))

    def _repeated(self, part: _Part) -> _Part:
        found = _REPEAT.match(self._text, self.at)
        if found is None:
            return part
        self.at = found.end()
        if found["greed"] == "+" or _REPEAT.match(self._text, self.at):
            raise _not_read(self._text)  # possessive, or a repeat of a repeat
        least = int(found["least"] or found["sign"] == "+")
        most = None if found["sign"] in ("*", "+") or (found["comma"] and not found["most"]) else 1
        if found["least"] and most is not None:
            most = int(found["most"] or found["least"])
        if max(least, most or 0) > _MOST or (most is not None and most < least):
            raise _not_read(self._text)
        return lambda path, places: _repeat(part, path, places, least, most)

    def _next(self) -> str:
        return self._text[self.at : self.at + 1]

    def _take(self, text: str) -> None:
        if not self._text.startswith(text, self.at):
            raise _not_read(self._text)
        self.at += len(text)


def _at_start(path: str, places: _Places) -> _Places:
    return places & {0}


def _at_end(path: str, places: _Places) -> _Places:
    return places & {len(path)}


def _repeat(part: _Part, path: str, places: _Places, least: int, most: int | None) -> _Places:
    for _ in range(least):
        places = part(path, places)
    found, new, count = places, places, least
    while new and (most is None or count < most):
        new = part(path, new) - found
        found, count = found | new, count + 1
    return found
