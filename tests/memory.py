"""Peak memory of a process and of those that it starts, as /proc tells it (Linux).

Not ru_maxrss: it begins at what the process that started this one had, 500 MB for an empty Python started by one that
holds 500 MB, where VmHWM says 11 MB.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Largest", "peak", "resident", "workers_watched"]

_EVERY = 0.05  # seconds; a peak only grows, so a worker's is missed for no more than its last moment


@dataclass
class Largest:
    """The largest peak of any one worker so far, in bytes; 0 where there was none."""

    peak: int = 0


def peak(pid: int | str = "self") -> int:
    """Return the most bytes that a process ever had in memory since its program began."""
    return _told(pid, "VmHWM")


def resident() -> int:
    """Return the bytes that this process has in memory now."""
    return _told("self", "VmRSS")


@contextmanager
def workers_watched() -> Iterator[Largest]:
    """Look at the processes that this one starts, for the length of a block."""
    largest, done = Largest(), threading.Event()
    watch = threading.Thread(target=_watch, args=(largest, done))
    watch.start()
    try:
        yield largest
    finally:
        done.set()
        watch.join()


def _watch(largest: Largest, done: threading.Event) -> None:
    own = psutil.Process()
    while not done.wait(_EVERY):
        for child in own.children(recursive=True):
            with suppress(OSError, StopIteration):  # it ended meanwhile
                largest.peak = max(largest.peak, peak(child.pid))


def _told(pid: int | str, what: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
