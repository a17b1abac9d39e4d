"""A new file, written block by block; each block is read back and compared while it is still in memory.

A large file goes around the cache of the system. To make the pages of a GB there takes a core 0.3 to 2 s (measured),
which a fast disk would wait for, and reading back would say what those pages hold; around it the disk itself answers. A
disk that turns out to be slower hides that work, and would need as long to be read as to be written: the rest of the
file then goes through the cache.
"""

import errno
import mmap
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lora_diffusion.errors import CorruptFile

__all__ = ["Stream"]

_BLOCK = 4 << 20  # bytes; measured around the cache: 1 MiB is written at 1.0 GB/s, 4 and 16 at 2.3
_BLOCKS = 6  # one is filled while others are hashed, written and read back; more gave nothing
_LEAST = 256 << 20  # bytes below which a file goes through the cache, where what is written is soon read
_TRIAL = 128 << 20  # bytes after which a disk is known
_FAST = 0.7e9  # bytes per second, of a disk that also reads them back, from which on the cache is slower
_NO_SUCH_WAY = (errno.EINVAL, errno.EOPNOTSUPP)  # said by file systems that do not do all that is asked here
_ALIGNED = 4096  # bytes, of which places and lengths around the cache are multiples
# Bytes after which the disk is set to work, so that it has taken most when the last byte is written: measured with
# 2.1 GB and a disk of 500 MB/s, a merge took 4.2 s with 64 MiB and 5.2 s with 1 GiB.
_FLUSHED = 64 << 20


@dataclass(kw_only=True)
class _Block:
    memory: NDArray[np.uint8]
    filled: int = 0
    under_way: list[Future[Any]] = field(default_factory=list)

    @property
    def bytes(self) -> NDArray[np.uint8]:
        return self.memory[: self.filled]

    @property
    def stored(self) -> NDArray[np.uint8]:
        """What is written: only the last block of a file is not full, and what is too much is cut off at the end."""
        return self.memory[: -(-self.filled // _ALIGNED) * _ALIGNED]


class Stream:
    """A file of `size` bytes that are given in order; `on_block` is shown each block on a thread of its own.

    Its bytes are not forced to the disk. Raises CorruptFile where other bytes are read back than were given, and the
    OSError of a disk that is full.
    """

    def __init__(self, path: Path, size: int, on_block: Callable[[memoryview], object] | None = None) -> None:
        self._path, self._size, self._on_block = path, size, on_block
        around = size >= _LEAST and hasattr(os, "O_DIRECT")
        path.touch()
        self._out, self._in = _Handle(path, os.O_WRONLY, around), _Handle(path, os.O_RDONLY, around)
        names = ("write", "read-back", "hash", "flush")
        self._writer, self._reader, self._shower, self._flusher = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in names
        )
        self._free = [_Block(memory=_memory(_BLOCK)) for _ in range(min(_BLOCKS, -(-size // _BLOCK)) or 1)]
        self._found = _memory(_BLOCK)
        self._under_way: deque[_Block] = deque()
        self._now = self._free.pop()
        self._written, self._seconds, self._unflushed = 0, 0.0, 0
        self._flushing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._writer, self._reader, self._shower, self._flusher):
            each.shutdown(cancel_futures=True)
        self._out.close()
        self._in.close()

    @property
    def around(self) -> bool:
        """Say whether bytes go around the cache of the system by now."""
        return self._out.around

    def room(self) -> memoryview:
        """Return memory for the next bytes, at least one; say with `took` how many there are now."""
        return self._now.memory[self._now.filled :].data

    def took(self, count: int) -> None:
        """Take what was put into `room`. May raise what writing or reading back raised."""
        self._now.filled += count
        if self._now.filled == _BLOCK:
            self._send()

    def put(self, data: memoryview) -> None:
        """Take a copy of bytes. May raise what writing or reading back raised."""
        given = np.frombuffer(data, dtype=np.uint8)
        while len(given):
            count = min(len(given), _BLOCK - self._now.filled)
            np.copyto(self._now.memory[self._now.filled :][:count], given[:count])
            given = given[count:]
            self.took(count)

    def finish(self) -> None:
        """Wait until everything is written and compared."""
        if self._now.filled:
            self._now.stored[self._now.filled :] = 0
            self._send(last=True)
        while self._under_way:
            self._settle()
        if self._flushing is not None:
            self._flushing.result()
        os.truncate(self._path, self._size)

    def _send(self, *, last: bool = False) -> None:
        block = self._now
        writing = self._writer.submit(self._write, block)
        block.under_way = [writing, self._reader.submit(self._compare, block, writing)]
        if self._on_block is not None:
            block.under_way.append(self._shower.submit(self._on_block, block.bytes.data))
        self._under_way.append(block)
        if not last:
            while not self._free:
                self._settle()
            self._now = self._free.pop()

    def _settle(self) -> None:
        block = self._under_way.popleft()
        for each in block.under_way:
            each.result()
        block.filled = 0
        self._free.append(block)

    def _write(self, block: _Block) -> None:
        if self.around and self._written == 0:
            self._out.reserve(0, _TRIAL)
        began = time.perf_counter()
        self._out.write(block.stored)
        self._seconds += time.perf_counter() - began
        self._written += len(block.stored)
        if not self.around:
            self._flush_early(len(block.stored))
        elif self._written == _TRIAL:
            self._decide()

    def _decide(self) -> None:
        if self._written / self._seconds >= _FAST:
            self._out.reserve(self._written, self._size - self._written)
        else:
            self._out.through_the_cache()
            self._in.through_the_cache()

    def _flush_early(self, count: int) -> None:
        self._unflushed += count
        if self._unflushed >= _FLUSHED and (self._flushing is None or self._flushing.done()):
            self._flushing = self._flusher.submit(self._out.flush)
            self._unflushed = 0

    def _compare(self, block: _Block, writing: Future[None]) -> None:
        writing.result()
        wanted = block.stored
        found = self._found[: len(wanted)]
        if self._in.read(found) != len(wanted) or not np.array_equal(found.view(np.int64), wanted.view(np.int64)):
            raise CorruptFile(
                f"{self._path.name}: other bytes are read back than were written",
                hint="the disk or the memory fails, or another program writes to the file: try again, on another disk",
            )


class _Handle:
    """A file opened for reading or writing in order, around the cache of the system where that is wanted and works."""

    def __init__(self, path: Path, how: int, around: bool) -> None:
        how |= getattr(os, "O_BINARY", 0)
        self.around, self._handle = around, -1
        if around:
            try:
                self._handle = os.open(path, how | os.O_DIRECT)
            except OSError as error:
                if error.errno not in _NO_SUCH_WAY:
                    raise
                self.around = False
        if not self.around:
            self._handle = os.open(path, how)
        self._file = os.fdopen(self._handle, "wb" if how & os.O_WRONLY else "rb", buffering=0)

    def close(self) -> None:
        self._file.close()

    def flush(self) -> None:
        os.fsync(self._handle)

    def write(self, data: NDArray[np.uint8]) -> None:
        left = data.data
        while left:
            left = left[self._tried(self._file.write, left) :]

    def read(self, into: NDArray[np.uint8]) -> int:
        done = 0
        while count := self._tried(self._file.readinto, into[done:].data):
            done += count
        return done

    def reserve(self, start: int, count: int) -> None:
        """Have the file system find the place of `count` bytes: reading need not wait for writing then."""
        try:
            os.posix_fallocate(self._handle, start, count)
        except OSError as error:
            if error.errno not in _NO_SUCH_WAY:
                raise

    def through_the_cache(self) -> None:
        import fcntl

        flags = fcntl.fcntl(self._handle, fcntl.F_GETFL)
        fcntl.fcntl(self._handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self.around = False

    def _tried(self, call: Callable[[memoryview], int], memory: memoryview) -> int:
        """Read or write; through the cache where a file system that opened the file now wants another alignment."""
        try:
            return call(memory)
        except OSError as error:
            if not self.around or error.errno not in _NO_SUCH_WAY:
                raise
        self.through_the_cache()
        return call(memory)


def _memory(size: int) -> NDArray[np.uint8]:
    """Return memory that begins with a page, as reading and writing around the cache want it."""
    return np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)
