"""Caption edits as pure text functions: a value says what to do, `apply` does it to one caption.

A tag is what stands between commas. Nothing else in a caption has a meaning here: `{}`, `(word:1.2)` or `%s` are text.
"""

import re
from collections.abc import Iterable, Iterator

from datasets_tools.errors import InvalidSetting

__all__ = ["tags_of", "vary_tags"]

_COMMA = re.compile(r"(?<!\d),|,(?!\d)|[，、]")  # the comma of "1,000 houses" parts nothing; East Asia has its own


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


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidSetting(otherwise, hint="choose a value in that range")
