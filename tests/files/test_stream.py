"""A file that is written in blocks holds what was given, on any disk, and says so where it does not."""

import errno
import hashlib
import os

import numpy as np
import pytest

from lora_diffusion.errors import CorruptFile
from lora_diffusion.files import stream
from lora_diffusion.files.stream import Stream

_BLOCK = stream._BLOCK
_SIZES = (1, 4095, 4096, _BLOCK - 1, _BLOCK, _BLOCK + 1, 9 * _BLOCK + 4097)
_AROUND = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no way around its cache")


@pytest.fixture(params=["through the cache", "around it", "slow", "refused", "refused late"])
def disk(request, monkeypatch):
    """How a file reaches the disk: small ones through the cache, so that these here count as large ones."""
    if request.param == "through the cache":
        return request.param
    if not hasattr(os, "O_DIRECT"):
        pytest.skip("this system has no way around its cache")
    monkeypatch.setattr(stream, "_LEAST", 0)
    monkeypatch.setattr(stream, "_TRIAL", 2 * _BLOCK)
    monkeypatch.setattr(stream, "_FAST", float("inf") if request.param == "slow" else 0)
    if request.param == "refused":
        monkeypatch.setattr(os, "open", _refusing(os.open))
    if request.param == "refused late":
        opened = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *how, **named: _Late(opened(*how, **named)))
    return request.param


def _refusing(opened):
    def refusing(path, how, *more, **named):
        if how & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        return opened(path, how, *more, **named)

    return refusing


class _Late:
    """A file of a system that opens it around the cache, and then neither reads nor writes it so."""

    def __init__(self, file):
        self._file = file
        self.close = file.close

    def write(self, data):
        self._refuse()
        return self._file.write(data)

    def readinto(self, memory):
        self._refuse()
        return self._file.readinto(memory)

    def _refuse(self):
        import fcntl

        if fcntl.fcntl(self._file.fileno(), fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _bytes(count):
    return np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8).data


def _written(path, data, pieces=1):
    shown = hashlib.sha256()
    with Stream(path, len(data), shown.update) as file:
        for start in range(0, len(data), -(-len(data) // pieces)):
            file.put(data[start : start + -(-len(data) // pieces)])
        file.finish()
    return shown.hexdigest()


@pytest.mark.parametrize("size", _SIZES)
def test_a_file_holds_the_bytes_that_were_given(size, disk, tmp_path):
    data = _bytes(size)
    shown = _written(tmp_path / "file", data, pieces=3)
    assert (tmp_path / "file").read_bytes() == data
    assert shown == hashlib.sha256(data).hexdigest()


def test_bytes_may_be_put_where_they_are_written_from(disk, tmp_path):
    data = _bytes(3 * _BLOCK + 5)
    with Stream(tmp_path / "file", len(data)) as file:
        left = data
        while left:
            room = file.room()[: len(left)]
            room[:] = left[: len(room)]
            file.took(len(room))
            left = left[len(room) :]
        file.finish()
    assert (tmp_path / "file").read_bytes() == data


@_AROUND
@pytest.mark.parametrize("fast", [True, False])
def test_a_slow_disk_takes_the_rest_through_the_cache(fast, monkeypatch, tmp_path):
    monkeypatch.setattr(stream, "_LEAST", 0)
    monkeypatch.setattr(stream, "_TRIAL", _BLOCK)
    monkeypatch.setattr(stream, "_FAST", 0 if fast else float("inf"))
    data = _bytes(4 * _BLOCK)
    with Stream(tmp_path / "file", len(data)) as file:
        if not file.around:
            pytest.skip("the file system of this folder has no way around the cache")
        file.put(data)
        file.finish()
        assert file.around == fast


@pytest.mark.parametrize("place", [0, _BLOCK, -1])
def test_one_bit_that_turned_on_the_disk_is_found(place, disk, monkeypatch, tmp_path):
    data, done = _bytes(2 * _BLOCK + 7), 0
    place, honest = place % len(data), stream._Handle.read

    def turned(handle, into):
        nonlocal done
        count = honest(handle, into)
        if done <= place < done + count:
            into[place - done] ^= 1
        done += count
        return count

    monkeypatch.setattr(stream._Handle, "read", turned)
    with pytest.raises(CorruptFile, match="file: other bytes are read back"):
        _written(tmp_path / "file", data)


def test_a_disk_that_lost_the_end_is_found(disk, monkeypatch, tmp_path):
    monkeypatch.setattr(stream._Handle, "write", lambda handle, data: None)
    with pytest.raises(CorruptFile):
        _written(tmp_path / "file", _bytes(_BLOCK))


def test_a_full_disk_is_told_whichever_block_it_refuses(disk, monkeypatch, tmp_path):
    honest, blocks = stream._Handle.write, []

    def full(handle, data):
        blocks.append(len(data))
        if len(blocks) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(handle, data)

    monkeypatch.setattr(stream._Handle, "write", full)
    with pytest.raises(OSError, match="No space left"):
        _written(tmp_path / "file", _bytes(9 * _BLOCK))
