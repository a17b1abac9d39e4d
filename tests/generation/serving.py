"""A drawing process as tests talk to it: real pipes, every line of stdout read as JSON."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue


class Serving:
    """The process, and the events that it has told."""

    def __init__(self, process):
        self.process = process
        self._events = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stdin.close()

    def _read(self):
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def send(self, **request):
        self.write(json.dumps(request).encode() + b"\n")

    def write(self, line: bytes):
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def next(self):
        found = self._events.get(timeout=120)
        assert found is not None, "the process ended"
        return found

    def until(self, *events):
        """Return what is told up to the first of these events, that one included."""
        told = [self.next()]
        while told[-1]["event"] not in events:
            assert told[-1]["event"] not in ("done", "stopped", "failed"), told[-1]
            told.append(self.next())
        return told

    def answer(self, **request):
        """Send a request and return all that is told of it."""
        self.send(**request)
        return self.until("done", "stopped", "failed")


@contextmanager
def serving(*options) -> Iterator[Serving]:
    command = [sys.executable, "-m", "lora_diffusion", "serve", "--device", "cpu", *options]
    talk = Serving(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    try:
        assert talk.next() == {"event": "ready"}
        yield talk
    finally:
        talk.close()
