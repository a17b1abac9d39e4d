"""What was seen of many pictures, in one array: 170 bytes each instead of 1,200."""

import math
import struct
from collections.abc import Sequence
from dataclasses import replace

from datasets_tools.compact import Computed
from datasets_tools.errors import UnreadableImage
from datasets_tools.look import Seen
from datasets_tools.quality import Quality

__all__ = ["Looked"]

# sha256, bytes, size, orientation, JPEG quality, kind, both hashes, colour, blur, blockiness, border, lettering
_ROW = struct.Struct("<32sQIIBBHQQ3ddd4dd")


class Looked:
    """Keeps what was seen, in the order in which it was added. The colours of the pictures are not kept."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._rows = bytearray()
        self._kinds: dict[tuple[str, tuple[str, ...]], int] = {}  # format and notes: few pairs, many pictures
        self._named: list[tuple[str, tuple[str, ...]]] = []
        self._refused: dict[int, tuple[str, str, bool]] = {}

    def add(self, one: Seen) -> None:
        """Keep one more, whose sha256 is that of a file or empty."""
        if one.refused is not None:  # not the error itself: its traceback may hold the bytes of the file
            self._refused[len(self.files)] = (str(one.refused), one.refused.hint, one.refused.passing)
        self.files.append(one.file)
        self._rows += _ROW.pack(
            bytes.fromhex(one.sha256),
            one.bytes,
            *one.size,
            one.orientation,
            one.jpeg_quality or 0,
            self._kind(one.format, one.notes),
            one.alike,
            one.mirrored,
            *one.colour,
            _or_nan(one.quality.blur),
            _or_nan(one.quality.blockiness),
            *one.quality.border,
            one.quality.lettering,
        )

    def refused(self) -> Sequence[Seen]:
        """Return those that cannot be read."""
        return self.at(list(self._refused))

    def at(self, places: Sequence[int]) -> Sequence[Seen]:
        """Return what was seen at some places of the order."""
        return Computed(len(places), lambda index: self._one(places[index]))

    def is_readable(self, place: int) -> bool:
        """Say whether the picture at a place could be read."""
        return place not in self._refused

    def _kind(self, form: str, notes: tuple[str, ...]) -> int:
        kind = self._kinds.setdefault((form, notes), len(self._named))
        if kind == len(self._named):
            self._named.append((form, notes))
        return kind

    def _one(self, place: int) -> Seen:
        sha256, size, width, height, orientation, jpeg, kind, alike, mirrored, *measured = _ROW.unpack_from(
            self._rows, place * _ROW.size
        )
        red, green, blue, blur, blockiness, left, top, right, bottom, lettering = measured
        form, notes = self._named[kind]
        seen = Seen(
            file=self.files[place],
            sha256=sha256.hex() if any(sha256) else "",
            bytes=size,
            size=(width, height),
            format=form,
            orientation=orientation,
            alike=alike,
            mirrored=mirrored,
            colour=(red, green, blue),
            notes=notes,
            jpeg_quality=jpeg or None,
            quality=Quality(
                blur=_or_none(blur),
                blockiness=_or_none(blockiness),
                border=(left, top, right, bottom),
                lettering=lettering,
            ),
        )
        return replace(seen, refused=self._error(place)) if place in self._refused else seen

    def _error(self, place: int) -> UnreadableImage:
        message, hint, passing = self._refused[place]
        return UnreadableImage(message, hint=hint, passing=passing)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
