"""The client of the process that draws (`lora-diffusion serve`): users take turns, each in their order."""

import json
import logging
import queue
import secrets
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from webui.errors import TooMany
from webui.processes import environment

__all__ = ["ENDS", "MAX_WAITING", "PROGRAM", "Painter"]

PROGRAM = (sys.executable, "-P", "-m", "lora_diffusion", "serve")
"""With -P no file of the folder in which the studio was started is taken for a module."""
MAX_WAITING, MAX_EACH = 64, 8
ENDS = {"done", "failed", "stopped"}
"""The last event of a request is one of these."""

_log = logging.getLogger("webui")

Event = dict[str, Any]


class _Ticket:
    def __init__(self, user: str, request: Mapping[str, Any]) -> None:
        self.id, self.user = secrets.token_hex(8), user
        self.line = json.dumps({**request, "id": self.id})
        self.events: queue.Queue[Event] = queue.Queue()


class Painter:
    """Owns the process; it starts when it is first needed, and again after it died. Use `close` in the end."""

    def __init__(self, *, folder: Path, program: Sequence[str] = PROGRAM) -> None:
        self._folder, self._program = folder, tuple(program)
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._waiting: dict[str, deque[_Ticket]] = {}
        self._at_work: _Ticket | None = None
        self._closed = False

    def warm(self) -> None:
        """Start the process, so that the first picture need not wait for it."""
        with self._lock:
            self._running()

    def draw(self, request: Mapping[str, Any], *, user: str) -> Iterator[Event]:
        """Yield the events of one request as `lora-diffusion serve` tells them; closing the iterator stops the drawing.

        While others are before it: {"event": "waiting", "before": N}. Raises TooMany where too many wait.
        """
        ticket = self._put(user, request)
        last: Event = {}
        try:
            while last.get("event") not in ENDS:
                try:
                    last = ticket.events.get(timeout=1.0)
                except queue.Empty:
                    last = {"event": "waiting", "before": self._before(ticket)}
                    if last["before"] == 0:
                        continue
                yield last
        finally:
            if last.get("event") not in ENDS:
                self._drop(ticket)

    def stop(self, user: str) -> int:
        """Stop everything that a user asked for and return how many requests that were."""
        with self._lock:
            mine = list(self._waiting.pop(user, ()))
            for ticket in mine:
                ticket.events.put({"event": "stopped"})
            at_work = self._at_work
            if at_work is not None and at_work.user == user:
                self._say({"id": at_work.id, "do": "stop"})
                return len(mine) + 1
            return len(mine)

    def close(self) -> None:
        with self._lock:
            self._closed, process = True, self._process
        if process and process.stdin:
            try:
                process.stdin.close()  # the end of its input ends it
                process.wait(10)
            except (OSError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    def _put(self, user: str, request: Mapping[str, Any]) -> _Ticket:
        ticket = _Ticket(user, request)
        with self._lock:
            mine = self._waiting.setdefault(user, deque())
            if sum(map(len, self._waiting.values())) >= MAX_WAITING or len(mine) >= MAX_EACH:
                raise TooMany("too many pictures are waiting", hint="wait for those that you asked for, or stop them")
            mine.append(ticket)
            self._next()
        return ticket

    def _next(self) -> None:
        """Hand over the first request of the user whose turn it is."""
        if self._at_work is not None:
            return
        for user in list(self._waiting):
            tickets = self._waiting.pop(user)
            if not tickets:
                continue
            self._at_work = tickets.popleft()
            if tickets:
                self._waiting[user] = tickets  # at the end: the others come first
            self._send(self._at_work)
            return

    def _send(self, ticket: _Ticket) -> None:
        try:
            self._running()
            self._say(ticket.line)
        except OSError as error:
            _log.error("the drawing process cannot be reached: %s", error)
            self._end({"event": "failed", "reason": "the drawing process does not start", "hint": "see the log"})

    def _say(self, message: str | Mapping[str, Any]) -> None:
        process = self._process
        if process and process.stdin and process.poll() is None:
            process.stdin.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
            process.stdin.flush()

    def _before(self, ticket: _Ticket) -> int:
        with self._lock:
            if ticket is self._at_work:
                return 0
            mine = self._waiting.get(ticket.user, deque())
            turn = mine.index(ticket) if ticket in mine else 0
            others = sum(min(len(each), turn + 1) for user, each in self._waiting.items() if user != ticket.user)
            return turn + others + (self._at_work is not None)

    def _drop(self, ticket: _Ticket) -> None:
        with self._lock:
            mine = self._waiting.get(ticket.user)
            if mine and ticket in mine:
                mine.remove(ticket)
            elif ticket is self._at_work:
                self._say({"id": ticket.id, "do": "stop"})

    def _running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        with (self._folder / "painter.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                env=environment(), start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=self._listen, args=(self._process,), daemon=True, name="painter").start()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                _log.error("the drawing process said %r", line[:200])
                continue
            with self._lock:
                if self._at_work is not None and event.get("id") == self._at_work.id:
                    if event.get("event") in ENDS:
                        self._end(event)
                    else:
                        self._at_work.events.put(event)
        process.wait()
        with self._lock:
            if self._process is process and self._at_work is not None and not self._closed:
                code = process.returncode
                reason = (
                    "memory ran out while drawing, or it was ended from outside" if code == -9 else "drawing broke off"
                )
                self._end({"event": "failed", "reason": reason, "hint": "try again, with a smaller size if it repeats"})

    def _end(self, event: Event) -> None:
        ticket, self._at_work = self._at_work, None
        if ticket is not None:
            ticket.events.put(event)
        self._next()
