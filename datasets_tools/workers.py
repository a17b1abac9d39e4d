"""Look at pictures in processes of their own: on all cores, and out of reach of what a broken file does to a decoder.

Python code holds one lock per process, so threads alone would leave most cores idle; a file that crashes a decoder or
never ends takes one worker with it and becomes a finding. A worker is `python -m datasets_tools.workers`: it is asked
one JSON line per file and answers with one. Unlike multiprocessing it does not import the caller's script again.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from datasets_tools.errors import UnreadableImage
from datasets_tools.look import Look, Seen, decode_row, look_at, seen_from_row

__all__ = ["Workers"]

_SECONDS = 120.0  # for one file: the largest that is allowed decodes in about 5
# Each worker is one core's work; numpy's own threads would only get in the way of the other workers.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Let the GNU C library keep up to 128 MB, also in pieces of up to 32 MB (Pillow's have 16), for the next picture: new
# pages from the system are a fifth of the time of decoding 12 megapixels. Elsewhere this means nothing.
_KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(128 * 2**20), "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20)}
_REMEDY = "save it again with another program, or remove it"


class Workers:
    """So many worker processes for one `Look`. Use as a context manager; safe for as many threads as workers."""

    def __init__(self, look: Look, count: int) -> None:
        self._look = look
        self._idle: queue.Queue[subprocess.Popen[str] | None] = queue.Queue()
        for _ in range(count):
            self._idle.put(None)  # started when first needed
        self._started: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for process in self._started:
                _end(process)

    def look(self, file: str) -> Seen:
        """Look at one file. What crashes its worker, or takes longer than two minutes, cannot be read."""
        return look_at(file, self._look, decode=self._decode)

    def _decode(self, file: str) -> Seen:
        with self._one() as process:
            answer = _ask(process, file)
        if answer is None:
            refused = UnreadableImage("it crashes the decoder, or keeps it busy for ever", hint=_REMEDY)
            return Seen(file=file, refused=refused)
        return seen_from_row(file, json.loads(answer))

    @contextmanager
    def _one(self) -> Iterator[subprocess.Popen[str]]:
        process = self._idle.get()
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            yield process
        finally:
            self._idle.put(process)

    def _start(self) -> subprocess.Popen[str]:
        limits = asdict(self._look.limits) if self._look.limits else None
        settings = json.dumps([str(self._look.folder), self._look.background, limits])
        root = str(Path(__file__).parent.parent)
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "datasets_tools.workers", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries complain there of what is reported here
            encoding="utf-8",
            env={**os.environ, **_ONE_THREAD, **_KEPT_MEMORY, "PYTHONPATH": paths},
        )
        with self._lock:
            self._started.add(process)
        return process


def _ask(process: subprocess.Popen[str], file: str) -> str | None:
    """Return the answer line, or None where the process died over it or was too slow and has been ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    patience = threading.Timer(_SECONDS, process.kill)
    patience.daemon = True
    patience.start()
    try:
        process.stdin.write(json.dumps(file) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except (OSError, ValueError):  # ValueError: closed by the end of the scan
        answer = ""
    finally:
        patience.cancel()
    if answer.endswith("\n"):
        return answer
    _end(process)
    return None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not yet written to a dead process
            if stream is not None:
                stream.close()


def _serve(settings: str, asked: IO[str], answers: IO[str]) -> None:
    """Answer one file a line until the asker goes away: what a worker process does."""
    from datasets_tools.image import Limits

    folder, background, limits = json.loads(settings)
    look = Look(folder=Path(folder), background=tuple(background), limits=Limits(**limits) if limits else None)
    for line in asked:
        answers.write(json.dumps(decode_row(json.loads(line), look)) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    with suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(sys.argv[1], sys.stdin, sys.stdout)
