"""Pictures that are there twice: the same bytes, or the same look after scaling, recompression or mirroring."""

from collections.abc import Iterator, Sequence

from datasets_tools.finding import Finding, warns
from datasets_tools.look import Seen

__all__ = ["duplicates", "leaks", "near_duplicates"]

# Of 64 bits; pictures that people call the same differ in 0-4 after scaling and recompression, others in 20-40.
_BITS = 4
_COLOUR = 12  # levels of 255 of the mean colour: the hash sees no colour
_ASPECT = 0.05


class _Index:
    """Pictures by stripes of their hash, so that near ones are found without comparing all with all.

    Hashes that differ in at most 4 of 64 bits agree on at least one of five stripes (pigeonhole), so only pictures with
    an equal stripe are compared.
    """

    def __init__(self) -> None:
        self._stripes: dict[tuple[int, int], list[Seen]] = {}

    def add(self, one: Seen) -> None:
        for stripe in _stripes(one.alike):
            self._stripes.setdefault(stripe, []).append(one)

    def twin(self, one: Seen) -> tuple[Seen, bool] | None:
        """Return the first picture that looks like this one, and whether it is mirrored."""
        for look, mirrored in ((one.alike, False), (one.mirrored, True)):
            for stripe in _stripes(look):
                for other in self._stripes.get(stripe, ()):
                    if (look ^ other.alike).bit_count() <= _BITS and _agree(one, other):
                        return other, mirrored
        return None


def duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Find files with equal bytes."""
    first: dict[str, str] = {}
    for one in seen:
        original = first.setdefault(one.sha256, one.file)
        if original != one.file:
            reason = f"it is the same file as {original}, which then counts twice"
            yield warns("image-duplicate", one.file, reason, "remove one of them")


def near_duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Find pictures that look the same, also resized, recompressed or mirrored, in about linear time."""
    index, known = _Index(), set()
    for one in seen:
        if one.sha256 in known:
            continue  # equal bytes are another finding
        known.add(one.sha256)
        found = index.twin(one)
        if found is None:
            index.add(one)
            continue  # a picture with a twin is compared through it from here on: a burst of 1,000 stays linear
        twin, mirrored = found
        how = f"it is {twin.file} mirrored" if mirrored else f"it looks like {twin.file}"
        reason = f"{how}, and the look of that picture then weighs twice"
        yield warns("image-near-duplicate", one.file, reason, "keep the better one")


def leaks(seen: Sequence[Seen], held_out: Sequence[Seen], place: str) -> Iterator[Finding]:
    """Find held-out pictures that training sees too, exactly or nearly: `place` is their folder's name."""
    index = _Index()
    by_bytes = {one.sha256: one for one in seen}
    for one in seen:
        index.add(one)
    for one in held_out:
        same = by_bytes.get(one.sha256)
        found = (same, False) if same else index.twin(one)
        if found is not None:
            reason = f"{place}/{one.file} is held out for validation, but training sees it{' mirrored' * found[1]}"
            yield warns(
                "validation-leak",
                found[0].file,
                reason,
                "remove one of them; otherwise training looks better than it is",
            )


def _stripes(look: int) -> list[tuple[int, int]]:
    return [(number, look >> (13 * number) & 0x1FFF) for number in range(_BITS + 1)]


def _agree(one: Seen, other: Seen) -> bool:
    across, along = one.size[0] * other.size[1], one.size[1] * other.size[0]
    same_colour = all(abs(a - b) <= _COLOUR for a, b in zip(one.colour, other.colour, strict=True))
    return same_colour and abs(across - along) <= _ASPECT * across
