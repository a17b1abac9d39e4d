"""Rows by key in one file that only grows: what was found once is found again, also after a kill.

Each row is one line with its own checksum, added in one system call. A torn or damaged line is as if it were not there.
Several processes may add to one journal.
"""

import hashlib
import json
import logging
import os
import threading
from array import array
from pathlib import Path
from typing import Any

from datasets_tools.errors import DatasetError, OutOfSpace
from datasets_tools.storage import append_line

__all__ = ["Journal"]

_log = logging.getLogger("datasets_tools")


class Journal:
    """JSON objects by key in a file; `added` counts those of this object.

    Memory holds the keys' hashes and places only, about 40 bytes a row. Safe for several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._closed = False
        self._begun = False
        self._places = _places(self._path)
        self.added = 0

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the newest whole row of a key, or None."""
        with self._lock:
            place = self._places.find(_short(key))
        if place is None:
            return None
        try:
            with self._path.open("rb") as file:
                file.seek(place)
                return _row(file.readline(), key)
        except OSError:
            return None

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Add a row. Where the place cannot be written it is kept out, with one warning; raises OutOfSpace."""
        text = json.dumps([key, row], separators=(",", ":"))
        with self._lock:
            if self._closed:
                return
            try:
                self._begin()
                place = append_line(self._path, f"{_sum(text)} {text}")
                self._places.set(_short(key), place)
                self.added += 1
            except OutOfSpace:
                raise
            except (DatasetError, OSError) as error:
                self._closed = True
                _log.warning("%s; what was seen of the pictures is not kept", error)

    def _begin(self) -> None:
        if self._begun:
            return
        if _is_torn(self._path):  # a power cut left half a line: the next one must not grow onto it
            append_line(self._path, "")
        self._begun = True


def _is_torn(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


class _Places:
    """Places in a file by 64-bit numbers that are spread evenly: a hash table with open addressing in two arrays.

    As a dict it would be 130 bytes for each row instead of 40. Keys that share a number share its place, where `_row`
    then finds the other one: that picture is decoded again.
    """

    def __init__(self) -> None:
        self._count = 0
        self._numbers = array("Q", bytes(8 * 1024))
        self._ends = array("Q", bytes(8 * 1024))  # the place and one more; 0 is free

    def find(self, number: int) -> int | None:
        end = self._ends[self._slot(number)]
        return end - 1 if end else None

    def set(self, number: int, place: int) -> None:
        slot = self._slot(number)
        self._count += not self._ends[slot]
        self._numbers[slot], self._ends[slot] = number, place + 1
        if 3 * self._count > 2 * len(self._ends):
            self._grow()

    def _slot(self, number: int) -> int:
        """Return where a number stands, or the free slot where it would."""
        last = len(self._ends) - 1  # the length is a power of two
        slot = number & last
        while self._ends[slot] and self._numbers[slot] != number:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = zip(self._numbers, self._ends, strict=True)
        size = 8 * 2 * len(self._ends)
        self._numbers, self._ends = array("Q", bytes(size)), array("Q", bytes(size))
        for number, end in old:
            if end:
                slot = self._slot(number)
                self._numbers[slot], self._ends[slot] = number, end


def _places(path: Path) -> _Places:
    places = _Places()
    try:
        with path.open("rb") as file:
            place = 0
            for line in file:
                key = _key(line)
                if key is not None and line.endswith(b"\n"):
                    places.set(_short(key), place)
                place += len(line)
    except OSError:
        return _Places()
    return places


def _key(line: bytes) -> str | None:
    """Return the key of a line without reading the whole of it."""
    start = line.find(b'["')
    end = line.find(b'"', start + 2)
    return line[start + 2 : end].decode("utf-8", "replace") if 0 <= start < end else None


def _row(line: bytes, key: str) -> dict[str, Any] | None:
    total, _, text = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
    if total != _sum(text):
        return None
    found, row = json.loads(text)
    return dict(row) if found == key else None


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _short(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "little")
