"""Caption edits as pure text functions: a value says what to do, `apply` does it to one caption.

A tag is what stands between commas. Nothing else in a caption has a meaning here: `{}`, `(word:1.2)` or `%s` are text.
"""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from datasets_tools.caption import with_trigger
from datasets_tools.errors import InvalidSetting
from datasets_tools.text import MAX_BYTES, tidy

__all__ = [
    "EDITS",
    "Append",
    "Dropout",
    "Edit",
    "Normalise",
    "Prepend",
    "Remove",
    "Replace",
    "Shuffle",
    "Trigger",
    "edited",
    "tags_of",
    "vary_tags",
]

_LONGEST = 1_000  # signs of a pattern or of what is put in: a caption of 64 KiB then grows to 64 MB at the very worst
_SECONDS = 1.0  # for one pattern on one caption; a sound one takes microseconds, a runaway one takes centuries
_COMMA = re.compile(r"(?<!\d),|,(?!\d)|[，、]")  # the comma of "1,000 houses" parts nothing; East Asia has its own


class Edit(Protocol):
    """One change to a caption. Edits are frozen values; equal edits of equal captions give equal captions."""

    @property
    def what(self) -> str:
        """Return in a few words what it does, for the history."""
        ...

    def apply(self, text: str, *, file: str, seed: int) -> str:
        """Return the changed caption of the picture `file`; draws depend on `seed` and `file` alone.

        Raises InvalidSetting where the edit cannot be done to this caption.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Prepend:
    """Put a text before the caption; an empty caption becomes the text alone."""

    text: str
    joiner: str = ", "

    @property
    def what(self) -> str:
        return f'put "{self.text}" first'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return f"{self.text}{self.joiner}{text}" if text else self.text


@dataclass(frozen=True, kw_only=True)
class Append:
    """Put a text after the caption; an empty caption becomes the text alone."""

    text: str
    joiner: str = ", "

    @property
    def what(self) -> str:
        return f'put "{self.text}" last'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return f"{text}{self.joiner}{self.text}" if text else self.text


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Replace a text, everywhere in the caption.

    `old` is taken literally, as a whole word with `whole_words`. With `regex` it is a pattern and `new` may name its
    groups as \\1 or \\g<name>; a pattern that takes more than a second on one caption is refused.
    """

    old: str
    new: str = ""
    regex: bool = False
    whole_words: bool = False
    match_case: bool = True

    def __post_init__(self) -> None:
        _require(bool(self.old), "there is no text to replace", hint="give it as old")
        for text in (self.old, self.new):
            _require(len(text) <= _LONGEST, f"{text[:30]}... has {len(text)} signs, more than {_LONGEST}")
        self._pattern()

    @property
    def what(self) -> str:
        return f'replace {"pattern " if self.regex else ""}"{self.old}" by "{self.new}"'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        import regex

        new = self.new if self.regex else self.new.replace("\\", "\\\\")
        try:
            return str(self._pattern().sub(new, text, timeout=_SECONDS))
        except TimeoutError as error:
            raise InvalidSetting(
                f'the pattern "{self.old}" takes more than {_SECONDS:g} s on the caption of {file}',
                hint="avoid repeats inside of repeats, such as (a+)+",
            ) from error
        except (regex.error, IndexError) as error:
            raise InvalidSetting(f'"{self.new}" cannot replace: {error}', hint="groups are \\1, \\2 ...") from error

    def _pattern(self) -> Any:
        """Return the compiled pattern; `regex` keeps the compiled ones, and unlike `re` it can be stopped."""
        import regex

        literal = regex.escape(self.old, special_only=True)
        source = self.old if self.regex else literal
        if self.whole_words:
            source = rf"(?<!\w)(?:{source})(?!\w)"
        try:
            return regex.compile(source, flags=0 if self.match_case else regex.IGNORECASE)
        except regex.error as error:
            raise InvalidSetting(f'"{self.old}" is not a pattern: {error}', hint="or replace it literally") from error


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Remove every tag that says `text`, or with `inside` the words wherever they stand; capitals do not matter."""

    text: str
    inside: bool = False

    def __post_init__(self) -> None:
        _require(bool(self.text.strip()), "there is no text to remove", hint="give it as text")

    @property
    def what(self) -> str:
        return f'remove {"" if self.inside else "tag "}"{self.text}"'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        if self.inside:
            replace = Replace(old=self.text.strip(), new=" ", whole_words=True, match_case=False)
            left = replace.apply(text, file=file, seed=seed)
            return text if left == text else ", ".join(" ".join(tag.split()) for tag in tags_of(left))
        tags = tags_of(text)
        kept = [tag for tag in tags if not _same(tag, self.text)]
        return text if len(kept) == len(tags) else ", ".join(kept)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Put the trigger first, once; with `old`, that word becomes the trigger where it stands.

    A trigger inside of a sentence stays there, and the caption then needs no other.
    """

    trigger: str
    old: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.trigger.strip()), "the trigger is empty", hint="give it as trigger")

    @property
    def what(self) -> str:
        return f'change trigger "{self.old}" to "{self.trigger}"' if self.old else f'put trigger "{self.trigger}" first'

    def apply(self, text: str, *, file: str, seed: int) -> str:
        if self.old.strip():
            change = Replace(old=self.old.strip(), new=self.trigger, whole_words=True, match_case=False)
            text = change.apply(text, file=file, seed=seed)
        tags = tags_of(text)
        others = tuple(tag for tag in tags if not _same(tag, self.trigger))
        if tags == (self.trigger, *others):
            return text
        return with_trigger(text, self.trigger) if len(others) == len(tags) else ", ".join((self.trigger, *others))


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """Put the tags into another order, the first `keep` excepted."""

    keep: int = 1

    def __post_init__(self) -> None:
        vary_tags("", keep=self.keep, shuffle=True, dropout=0.0, numbers=())

    @property
    def what(self) -> str:
        return f"shuffle tags after the first {self.keep}"

    def apply(self, text: str, *, file: str, seed: int) -> str:
        return vary_tags(text, keep=self.keep, shuffle=True, dropout=0.0, numbers=_draws("shuffle", file, seed))


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Leave out each tag with a probability, the first `keep` excepted."""

    probability: float
    keep: int = 1

    def __post_init__(self) -> None:
        vary_tags("", keep=self.keep, shuffle=False, dropout=self.probability, numbers=())

    @property
    def what(self) -> str:
        return f"leave out {self.probability:.0%} of the tags after the first {self.keep}"

    def apply(self, text: str, *, file: str, seed: int) -> str:
        numbers = _draws("dropout", file, seed)
        return vary_tags(text, keep=self.keep, shuffle=False, dropout=self.probability, numbers=numbers)


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """Write tags in one way: single spaces, ", " between them, each once, `red_roof` as "red roof"."""

    separators: bool = True
    spaces: bool = True
    duplicates: bool = True
    underscores: bool = True

    @property
    def what(self) -> str:
        return "normalise " + ", ".join(part for part in self.__dataclass_fields__ if getattr(self, part))

    def apply(self, text: str, *, file: str, seed: int) -> str:
        if self.spaces:
            text = re.sub(r" +(?=[,，、])", "", " ".join(text.split()))
        tags = [_without_underscores(tag) if self.underscores else tag for tag in tags_of(text)]
        if self.duplicates:
            first: dict[str, str] = {}
            for tag in tags:
                first.setdefault(tag.casefold(), tag)
            tags = list(first.values())
        return ", ".join(tags) if self.separators or tuple(tags) != tags_of(text) else text


EDITS: Mapping[str, type[Edit]] = MappingProxyType(
    {
        "append": Append,
        "dropout": Dropout,
        "normalise": Normalise,
        "prepend": Prepend,
        "remove": Remove,
        "replace": Replace,
        "shuffle": Shuffle,
        "trigger": Trigger,
    }
)
"""Every edit by the name that forms and command lines use."""


def edited(text: str, edits: Sequence[Edit], *, file: str, seed: int = 0) -> str:
    """Return the caption after all edits in their order, as one clean line.

    Raises InvalidSetting where an edit cannot be done, or where the caption would grow beyond 64 KiB.
    """
    for edit in edits:
        text = edit.apply(text, file=file, seed=seed)
        longest = f"{edit.what} makes the caption of {file} longer than {MAX_BYTES} bytes"
        _require(len(text) <= MAX_BYTES and len(text.encode("utf-8", "replace")) <= MAX_BYTES, longest)
    return tidy(text)


def tags_of(caption: str) -> tuple[str, ...]:
    """Return the tags of a caption in their order, without the white space around them and without empty ones."""
    return tuple(tag for tag in (part.strip() for part in _COMMA.split(caption)) if tag)


def vary_tags(caption: str, *, keep: int, shuffle: bool, dropout: float, numbers: Iterable[float]) -> str:
    """Return the caption with its tags in another order, or with some of them left out.

    Args:
        keep: so many first tags (the trigger counts as one) stay where they are and are never left out.
        shuffle: whether the others change places; every order is equally likely.
        dropout: the probability 0..1 that one of the others is left out.
        numbers: where the draws come from, each in [0, 1): two per tag that is not kept, so that the order does not
            depend on `dropout`. More are not read, so it may be endless.

    A caption that has nothing to vary is returned as it is. Raises InvalidSetting for a probability outside of 0..1, a
    negative `keep` and for too few numbers.
    """
    _require(keep >= 0, f"keep is {keep}; it counts tags, from 0 on")
    _require(0 <= dropout <= 1, f"dropout is {dropout}; it is a probability, from 0 to 1")
    tags = tags_of(caption)
    loose = tags[keep:]
    if not loose or not (shuffle or dropout):
        return caption
    drawn = [(*draw, tag) for draw, tag in zip(_pairs(numbers, len(loose)), loose, strict=True)]
    ordered = sorted(drawn, key=lambda row: row[0]) if shuffle else drawn
    return ", ".join((*tags[:keep], *(tag for _, leave, tag in ordered if leave >= dropout)))


def _pairs(numbers: Iterable[float], count: int) -> Iterator[tuple[float, float]]:
    source = iter(numbers)
    for _ in range(count):
        order, leave = next(source, None), next(source, None)
        if order is None or leave is None:
            raise InvalidSetting(f"{2 * count} numbers are needed, and there are fewer", hint="give two for each tag")
        yield order, leave


def _draws(purpose: str, file: str, seed: int) -> Iterator[float]:
    """Return endless numbers in [0, 1) that depend on these three alone; a seed of text is hashed by SHA-512."""
    return iter(random.Random(f"{purpose}\n{seed}\n{file}").random, None)


def _same(tag: str, other: str) -> bool:
    return tag.casefold() == other.strip().casefold()


def _without_underscores(tag: str) -> str:
    """Return the tag with spaces for underscores between letters; `__card__` and the face `o_o` stay."""
    return tag if len(tag) <= 3 else re.sub(r"(?<=[^\W_])_+(?=[^\W_])", " ", tag)


def _require(holds: bool, otherwise: str, hint: str = "choose a value in that range") -> None:
    if not holds:
        raise InvalidSetting(otherwise, hint=hint)
