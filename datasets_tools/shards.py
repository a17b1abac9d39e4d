"""Many records in few files: immutable shards in a folder that several processes share.

A shard is a safetensors file with one tensor of bytes per record, named by the record's key. The file's own name is the
SHA-256 of its header, which holds a digest of all records: equal contents have one name, and a header is checked before
it is believed. Each record also carries its key, length and SHA-256 in front of its bytes. So damage costs the records
that it hits; where it hits the header, the records are found again by scanning the file.

The header of a safetensors file is its length in 8 bytes, little-endian, then JSON, then the data (the library's
documentation, "Format"). It is read here because the library gives no offsets and refuses a file for one wrong byte.
"""

import hashlib
import json
import logging
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time_ns

from datasets_tools.storage import discard_file, write_bytes

__all__ = ["Shards", "is_full"]

# A full shard: some twenty files for 20,000 latents of 64 kB, and small enough to be gathered in memory.
_MOST_BYTES = 64_000_000
_MOST_RECORDS = 512

_MAGIC = b"\x93record\n"
_FRAME = struct.Struct("<8s32sQ32s")  # magic, key, length of the bytes, SHA-256 of key and bytes
# A folder that changed this recently may change again without a new time of change: FAT counts in steps of 2 s.
_TICK_NS = 2_000_000_000
# A shard takes seconds to write; a day leaves room for machines whose clocks differ.
_ABANDONED_NS = 86_400_000_000_000
_log = logging.getLogger("datasets_tools")


class _Damaged(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    shard: str
    start: int
    end: int


class Shards:
    """Records by key, which is 64 hex digits. The folder need not exist; neither is it made before the first write.

    The index comes from the headers: read once, and again when a key is missing and the folder has changed. Where a key
    has several records, any whole one is given.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        self._shards: dict[str, tuple[_Place, ...]] = {}
        self._places: dict[str, list[_Place]] = {}  # by key, the newest last
        self._listed_ns = -1

    def has(self, key: str) -> bool:
        """Say whether there is a record; whether it is whole is found on reading."""
        if key not in self._places and self._changed():
            self._refresh()
        return key in self._places

    def read(self, key: str) -> bytes | None:
        """Return the record, or None where there is none. A damaged one is logged as a warning and passed over."""
        while self.has(key):
            place = self._places[key][-1]
            path = self._folder / place.shard
            try:
                return _read(path, place)
            except FileNotFoundError:  # another process has put it into a larger shard
                self._forget(place)
                self._refresh()
            except (_Damaged, OSError) as damage:
                _log.warning("cache entry %s in %s is damaged (%s); it is computed again", key, path, damage)
                self._forget(place)
        return None

    def write(self, records: Mapping[str, bytes]) -> str:
        """Write the records durably as one shard and return its file name. Raises as storage.write_bytes."""
        name, data = _serialized(records)
        write_bytes(self._folder / name, data)
        self._remember(name, _places(name, _header(data)))
        return name

    def compact(self) -> None:
        """Put the records of small and damaged shards into full ones; leave out what is damaged or held twice.

        Reads every shard once to find damage, and holds one full shard in memory. Safe against a kill and beside
        readers and writers: a shard is removed only when its records are durable elsewhere.
        """
        _remove_leftovers(self._folder)
        self._refresh()
        chosen = self._worth_merging()
        kept = {place.key for name in self._shards.keys() - set(chosen) for place in self._shards[name]}
        gathered: dict[str, bytes] = {}
        emptied: list[str] = []
        for name in chosen:
            for key, record in self._whole_records(name):
                if key not in kept:
                    kept.add(key)
                    gathered[key] = record
                    if is_full(gathered):
                        self._replace(emptied, gathered)
            emptied.append(name)
        self._replace(emptied, gathered)

    def _worth_merging(self) -> list[str]:
        small = {name for name, places in self._shards.items() if _is_small(places)}
        damaged = {name for name in self._shards if (name not in small or len(small) == 1) and not self._is_whole(name)}
        return sorted(small | damaged) if damaged or len(small) > 1 else []

    def _is_whole(self, name: str) -> bool:
        try:
            held = len(_places(name, _read_header(self._folder / name)))
        except (_Damaged, OSError):
            return False
        return sum(1 for _ in self._whole_records(name)) == held

    def _whole_records(self, name: str) -> Iterator[tuple[str, bytes]]:
        for place in self._shards[name]:
            with suppress(_Damaged, OSError):
                yield place.key, _read(self._folder / name, place)

    def _replace(self, emptied: list[str], gathered: dict[str, bytes]) -> None:
        """Write what was gathered, then remove the shards that it came from; both are empty afterwards."""
        written = self.write(gathered) if gathered else ""
        for name in emptied:
            if name != written:
                # One that another process has removed, or that Windows holds while it is read, is no matter. Nothing is
                # forced to the disk: a shard that a power cut brings back holds what others hold too.
                discard_file(self._folder / name)
                self._drop(name)
        gathered.clear()
        emptied.clear()

    def _changed(self) -> bool:
        return self._modified_ns() != self._listed_ns or time_ns() - self._listed_ns < _TICK_NS

    def _modified_ns(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns
        except OSError:  # not there yet, or not ours: then writing says so
            return -1

    def _refresh(self) -> None:
        self._listed_ns = self._modified_ns()  # before listing, so that a later change shows
        found = _shard_files(self._folder)
        for gone in self._shards.keys() - found.keys():
            self._drop(gone)
        new = [entry for name, entry in found.items() if name not in self._shards]
        for entry in sorted(new, key=_age):
            self._remember(entry.name, _indexed(Path(entry.path)))

    def _remember(self, name: str, places: Collection[_Place]) -> None:
        self._shards[name] = tuple(places)
        for place in places:
            self._places.setdefault(place.key, []).append(place)

    def _drop(self, name: str) -> None:
        for place in self._shards.pop(name, ()):
            self._forget(place)

    def _forget(self, place: _Place) -> None:
        others = [other for other in self._places.get(place.key, ()) if other != place]
        if others:
            self._places[place.key] = others
        else:
            self._places.pop(place.key, None)


def is_full(records: Mapping[str, bytes]) -> bool:
    """Say whether the records make a full shard: 512 of them or 64 MB."""
    return len(records) >= _MOST_RECORDS or sum(map(len, records.values())) >= _MOST_BYTES


def _is_small(places: Collection[_Place]) -> bool:
    # from half full on merging saves less than half of the files
    return 2 * len(places) < _MOST_RECORDS and 2 * sum(place.end - place.start for place in places) < _MOST_BYTES


def _serialized(records: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the name and the bytes of a shard."""
    import numpy as np
    from safetensors.numpy import save

    frames = {key: _frame(key, records[key]) for key in sorted(records)}
    digest = hashlib.sha256(b"".join(frames.values())).hexdigest()
    tensors = {key: np.frombuffer(frame + records[key], dtype=np.uint8) for key, frame in frames.items()}
    data = save(tensors, metadata={"frames": digest})
    return f"{hashlib.sha256(_header(data)).hexdigest()}.safetensors", data


def _frame(key: str, record: bytes) -> bytes:
    raw = bytes.fromhex(key)
    return _FRAME.pack(_MAGIC, raw, len(record), hashlib.sha256(raw + record).digest())


def _unframed(key: str, framed: bytes) -> bytes:
    record = framed[_FRAME.size :]
    if framed[: _FRAME.size] != _frame(key, record):
        raise _Damaged("its contents do not match their checksum")
    return record


def _read(path: Path, place: _Place) -> bytes:
    with open(path, "rb") as file:
        file.seek(place.start)
        return _unframed(place.key, file.read(place.end - place.start))


def _shard_files(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return the shards of a folder by name; other files and caches of older versions are none."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries if _is_shard(entry.name)}
    except OSError:  # not there yet, or not ours: then writing says so
        return {}


def _age(entry: os.DirEntry[str]) -> tuple[int, str]:
    with suppress(OSError):  # removed since it was listed
        return entry.stat().st_mtime_ns, entry.name
    return 0, entry.name


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left aside a day ago or earlier; younger files may belong to a living one."""
    for leftover in Path(folder).glob(".part-*.safetensors"):
        with suppress(OSError):
            if os.stat(leftover).st_mtime_ns < time_ns() - _ABANDONED_NS:
                discard_file(leftover)


def _is_shard(name: str) -> bool:
    stem, _, suffix = name.partition(".")
    return suffix == "safetensors" and len(stem) == 64


def _indexed(path: Path) -> list[_Place]:
    """Return the places of a shard's records: from its header, or where that is damaged by looking for them."""
    try:
        return _places(path.name, _read_header(path))
    except FileNotFoundError:
        return []
    except (_Damaged, OSError) as damage:
        found = _scanned(path)
        _log.warning("the header of %s is damaged (%s); %d entries were found without it", path, damage, len(found))
        return found


def _header_length(length: bytes) -> int:
    # the library refuses longer headers than 100 MB; ours have 70 kB
    return min(int.from_bytes(length, "little"), 100_000_000)


def _header(data: bytes) -> bytes:
    return data[: 8 + _header_length(data[:8])]


def _read_header(path: Path) -> bytes:
    with open(path, "rb") as file:
        length = file.read(8)
        header = length + file.read(_header_length(length))
    if hashlib.sha256(header).hexdigest() != path.stem:
        raise _Damaged("it does not match the file's name")
    return header


def _places(name: str, header: bytes) -> list[_Place]:
    tensors = json.loads(header[8:])
    del tensors["__metadata__"]
    offsets = {key: tensor["data_offsets"] for key, tensor in tensors.items()}
    return [_Place(key, name, len(header) + start, len(header) + end) for key, (start, end) in offsets.items()]


def _scanned(path: Path) -> list[_Place]:
    """Return the whole records of a file whose header is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    places = []
    at = data.find(_MAGIC)
    while at >= 0:
        framed = data[at : at + _FRAME.size]
        if len(framed) == _FRAME.size:
            _, raw, length, _ = _FRAME.unpack(framed)
            end = at + _FRAME.size + length
            with suppress(_Damaged):
                _unframed(raw.hex(), data[at:end])
                places.append(_Place(raw.hex(), path.name, at, end))
        at = data.find(_MAGIC, at + 1)
    return places
