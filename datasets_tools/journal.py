"""Rows by key in one file that only grows: what was found once is found again, also after a kill.

Each row is one line with its own checksum, added in one system call. A torn or damaged line is as if it were not there.
Several processes may add to one journal.
"""

import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from datasets_tools.errors import DatasetError, OutOfSpace
from datasets_tools.storage import append_line

__all__ = ["Journal"]

_log = logging.getLogger("datasets_tools")


class Journal:
    """JSON objects by key in a file; `added` counts those of this object.

    Memory holds the keys' hashes and places only. Safe for several threads.
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
        place = self._places.get(_short(key))
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
                self._places[_short(key)] = place
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


def _places(path: Path) -> dict[bytes, int]:
    places: dict[bytes, int] = {}
    try:
        with path.open("rb") as file:
            place = 0
            for line in file:
                key = _key(line)
                if key is not None and line.endswith(b"\n"):
                    places[_short(key)] = place
                place += len(line)
    except OSError:
        return {}
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


def _short(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8"), digest_size=12).digest()
