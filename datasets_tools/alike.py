"""Pictures that are there twice: the same bytes, or the same look after scaling, recompression or mirroring."""

from array import array
from collections.abc import Collection, Iterator, Sequence

from datasets_tools.finding import Finding, warns
from datasets_tools.look import Seen

__all__ = ["duplicates", "leaks", "near_duplicates"]

# Of 64 bits; pictures that people call the same differ in 0-4 after scaling and recompression, others in 20-40.
_BITS = 4
_COLOUR = 12  # levels of 255 of the mean colour: the hash sees no colour
_ASPECT = 0.05
_STRIPE = 0x1FFF  # thirteen bits


class _Index:
    """Pictures by stripes of their hash, so that near ones are found without comparing all with all.

    Hashes that differ in at most 4 of 64 bits agree on at least one of five stripes (pigeonhole), so only pictures with
    an equal stripe are compared. Those stand in chains, as numbers in arrays: 32 bytes for each picture.
    """

    def __init__(self, seen: Sequence[Seen]) -> None:
        self._seen = seen
        self._places = array("I")  # in `seen`, of each picture of the index
        self._looks = array("Q")
        none = array("i", [-1])
        self._first, self._last = ([none * (_STRIPE + 1) for _ in range(_BITS + 1)] for _ in range(2))
        self._next = [array("i") for _ in range(_BITS + 1)]

    def add(self, place: int, look: int) -> None:
        new = len(self._places)
        self._places.append(place)
        self._looks.append(look)
        stripes = _stripes(look)
        for first, last, following, stripe in zip(self._first, self._last, self._next, stripes, strict=True):
            if last[stripe] < 0:
                first[stripe] = new
            else:
                following[last[stripe]] = new
            last[stripe] = new
            following.append(-1)

    def twin(self, one: Seen) -> tuple[Seen, bool] | None:
        """Return the first picture that looks like this one, and whether it is mirrored."""
        for look, mirrored in ((one.alike, False), (one.mirrored, True)):
            for number in self._near(look):
                other = self._seen[self._places[number]]
                if _agree(one, other):
                    return other, mirrored
        return None

    def _near(self, look: int) -> Iterator[int]:
        looks = self._looks
        for first, following, stripe in zip(self._first, self._next, _stripes(look), strict=True):
            number = first[stripe]
            while number >= 0:
                if (look ^ looks[number]).bit_count() <= _BITS:
                    yield number
                number = following[number]


def duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Find files with equal bytes."""
    first: dict[str, str] = {}
    twice = _twice(seen)
    for one in seen:
        original = first.setdefault(one.sha256, one.file) if hash(one.sha256) in twice else one.file
        if original != one.file:
            reason = f"it is the same file as {original}, which then counts twice"
            yield warns("image-duplicate", one.file, reason, "remove one of them")


def near_duplicates(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Find pictures that look the same, also resized, recompressed or mirrored, in about linear time."""
    index, known, twice = _Index(seen), set(), _twice(seen)
    for place, one in enumerate(seen):
        if one.sha256 in known:
            continue  # equal bytes are another finding
        if hash(one.sha256) in twice:
            known.add(one.sha256)
        found = index.twin(one)
        if found is None:
            index.add(place, one.alike)
            continue  # a picture with a twin is compared through it from here on: a burst of 1,000 stays linear
        twin, mirrored = found
        how = f"it is {twin.file} mirrored" if mirrored else f"it looks like {twin.file}"
        reason = f"{how}, and the look of that picture then weighs twice"
        yield warns("image-near-duplicate", one.file, reason, "keep the better one")


def leaks(seen: Sequence[Seen], held_out: Sequence[Seen], place: str) -> Iterator[Finding]:
    """Find held-out pictures that training sees too, exactly or nearly: `place` is their folder's name."""
    index = _Index(seen)
    wanted = {one.sha256 for one in held_out}
    by_bytes: dict[str, Seen] = {}
    for number, one in enumerate(seen):
        index.add(number, one.alike)
        if one.sha256 in wanted:
            by_bytes[one.sha256] = one
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


def _twice(seen: Sequence[Seen]) -> Collection[int]:
    """Return the hashes of the sha256 that may be there twice: a few numbers instead of 160 bytes for each picture."""
    import numpy as np

    hashes = np.sort(np.fromiter((hash(one.sha256) for one in seen), np.int64, len(seen)))
    return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _stripes(look: int) -> list[int]:
    return [look >> (13 * number) & _STRIPE for number in range(_BITS + 1)]


def _agree(one: Seen, other: Seen) -> bool:
    across, along = one.size[0] * other.size[1], one.size[1] * other.size[0]
    same_colour = all(abs(a - b) <= _COLOUR for a, b in zip(one.colour, other.colour, strict=True))
    return same_colour and abs(across - along) <= _ASPECT * across
