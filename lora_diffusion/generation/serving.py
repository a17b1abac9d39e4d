"""A process that draws on request: JSON lines in, JSON lines out, with base and adapters kept between requests.

`requests` says what can be asked. Answers are objects with `event` and the `id` of their request (null where it has
none): ready; loading {what, name}; step {done, of, picture, pictures}; preview {picture, done, jpeg in base64};
picture {path, number, settings}; and one of done {seconds}, stopped, failed {reason, hint, code} as the last.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from PIL import Image

from datasets_tools.errors import DatasetError
from lora_diffusion.errors import LoraDiffusionError, UsageError
from lora_diffusion.generation.keeper import Keeper, Wanted
from lora_diffusion.generation.preview import as_jpeg
from lora_diffusion.generation.requests import MAX_LINE, Draw, Quit, Stopping, Unload, id_of, parse_request
from lora_diffusion.generation.schedule import parse_schedule
from lora_diffusion.generation.start import read_start
from lora_diffusion.generation.stopping import Interrupted, require_going
from lora_diffusion.parts import parse_part

__all__ = ["serve"]

MAX_WAITING = 1000
"""Requests in the queue; more is a caller that does not wait for its answers."""

Tell = Callable[[dict[str, Any]], None]

_log = logging.getLogger("lora_diffusion")


def serve(
    lines: IO[bytes], tell: Tell, *, on_end: Callable[[], None], device: str = "auto", precision: str = "auto"
) -> None:
    """Answer requests until one says quit. `tell` is called from two threads, never at once.

    A thread of its own reads the lines, so that a stop arrives while a picture is drawn; it calls `on_end` where they
    end, which is how a parent that died shows: the process should then end at once.
    """
    inbox = _Inbox(tell)
    threading.Thread(target=inbox.read, args=(lines, on_end), name="requests", daemon=True).start()
    server = _Server(inbox.tell, device, precision)
    inbox.tell({"event": "ready"})
    while taken := inbox.take():
        inbox.done(server.answer(*taken))


class _Inbox:
    """What was asked for and is not done. One thread reads into it, another takes out of it."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._telling = tell, threading.Lock()
        self._changed = threading.Condition()
        self._waiting: dict[str, Draw | Unload] = {}
        self._running, self._stop = "", threading.Event()
        self._over = False

    def tell(self, event: dict[str, Any]) -> None:
        with self._telling:
            self._tell(event)

    def read(self, lines: IO[bytes], on_end: Callable[[], None]) -> None:
        while line := lines.readline(MAX_LINE):
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while (rest := lines.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                line = b""
            self._receive(line)
            if self._over:
                return
        on_end()

    def _receive(self, line: bytes) -> None:
        try:
            if not line:
                raise UsageError("the line is too long", hint=f"a request has at most {MAX_LINE} bytes")
            request = parse_request(line)
            with self._changed:
                self._accept(request)
                self._changed.notify()
        except UsageError as error:
            self.tell(_failed(id_of(line), error))

    def _accept(self, request: Draw | Unload | Stopping | Quit) -> None:
        if isinstance(request, Quit):
            self._over = True
            self._waiting.clear()
            self._stop.set()
        elif isinstance(request, Stopping):
            if request.id == self._running:
                self._stop.set()
            elif self._waiting.pop(request.id, None):
                self.tell({"event": "stopped", "id": request.id})
        elif request.id == self._running or request.id in self._waiting:
            raise UsageError(f"{request.id} is under way already", hint="give each request an id of its own")
        elif len(self._waiting) >= MAX_WAITING:
            raise UsageError(f"{MAX_WAITING} requests are waiting", hint="wait for answers before asking more")
        else:
            self._waiting[request.id] = request

    def take(self) -> tuple[Draw | Unload, threading.Event] | None:
        """Wait for a request and return it with its wish to stop; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._waiting)
            if self._over:
                return None
            self._running = next(iter(self._waiting))
            self._stop = threading.Event()
            return self._waiting.pop(self._running), self._stop

    def done(self, last: dict[str, Any]) -> None:
        """Tell how the request ended, when its id is free again."""
        with self._changed:
            self._running = ""
        self.tell(last)


class _Server:
    """Does what is asked, with what is loaded already."""

    def __init__(self, tell: Tell, device: str, precision: str) -> None:
        self._tell, self._id = tell, ""
        self._keeper = Keeper(device=device, precision=precision, on_load=self._loading)

    def answer(self, request: Draw | Unload, stop: threading.Event) -> dict[str, Any]:
        """Do it, and return the event of how it ended: whatever goes wrong is an answer."""
        self._id, began = request.id, time.perf_counter()
        try:
            if isinstance(request, Draw):
                self._draw(request, stop)
            else:
                self._keeper.unload()
            return {"event": "done", "id": request.id, "seconds": round(time.perf_counter() - began, 3)}
        except Interrupted:
            return {"event": "stopped", "id": request.id}
        except (LoraDiffusionError, DatasetError) as error:
            return _failed(request.id, error)
        except Exception as error:  # noqa: BLE001 - one request must not end those behind it
            self._keeper.unload()  # what is loaded may be half changed
            if not _is_memory(error):
                _log.error("", exc_info=error)
            return _unexpected(request.id, error)

    def _draw(self, request: Draw, stop: threading.Event) -> None:
        _require_new(request)
        parts = [parse_part(each) for each in request.parts]
        wanted = [Wanted(part=part, name=request.names.get(part.source, "")) for part in parts]
        schedules = {name: parse_schedule(text) for name, text in request.schedules.items()}
        start = read_start(Path(request.image), request.strength) if request.image else None
        require_going(stop.is_set)
        generator = self._keeper.generator(request.base, tokenizer=request.tokenizer, wanted=wanted)
        size = (request.width or generator.resolution, request.height or generator.resolution)
        for number in range(request.count):
            picture = generator.generate(
                request.prompt,
                seed=request.seed + number,
                negative=request.negative,
                size=None if start and not (request.width or request.height) else size,
                steps=request.steps,
                guidance=request.guidance,
                sampler=request.sampler,
                start=start,
                schedules=schedules,
                on_step=self._stepping(number, request.count),
                on_preview=self._previewing(number) if request.preview_every else None,
                preview_every=request.preview_every or 1,
                stop=stop.is_set,
            )
            path = picture.save(request.path(number))
            self._say("picture", path=str(path), number=number, settings=asdict(picture.settings))

    def _say(self, event: str, **more: Any) -> None:
        self._tell({"event": event, "id": self._id, **more})

    def _loading(self, what: str, name: str) -> None:
        self._say("loading", what=what, name=name)

    def _stepping(self, number: int, count: int) -> Callable[[int, int], None]:
        return lambda done, of: self._say("step", done=done, of=of, picture=number, pictures=count)

    def _previewing(self, number: int) -> Callable[[int, list[Image.Image]], None]:
        def preview(done: int, images: list[Image.Image]) -> None:
            self._say("preview", picture=number, done=done, jpeg=base64.b64encode(as_jpeg(images)).decode())

        return preview


def _require_new(request: Draw) -> None:
    for number in range(request.count):
        if request.path(number).exists():
            raise UsageError(f"{request.path(number)} exists already", hint="give the request another id or folder")


def _failed(request: str | None, error: LoraDiffusionError | DatasetError) -> dict[str, Any]:
    code = type(error).__name__
    return {"event": "failed", "id": request, "reason": str(error), "hint": error.hint, "code": code}


def _unexpected(request: str, error: Exception) -> dict[str, Any]:
    if _is_memory(error):
        reason, hint, code = "there is not enough memory for this picture", "take a smaller size", "OutOfMemory"
    elif isinstance(error, OSError):
        reason, hint, code = str(error), "look whether the folder can be written and the disk has room", "FileError"
    else:
        reason, hint, code = f"{type(error).__name__}: {error}", "a fault of lora-diffusion; please report it", "Fault"
    return {"event": "failed", "id": request, "reason": reason, "hint": hint, "code": code}


def _is_memory(error: Exception) -> bool:
    """The CPU's allocator of torch raises a plain RuntimeError."""
    return isinstance(error, MemoryError) or "memory" in type(error).__name__.lower() + str(error).lower()
