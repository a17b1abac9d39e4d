"""Progress of a long job on stderr: a bar with the time left in a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from lora_diffusion.training.events import Encoded, Event, Previewed, Scanned, Snapshotted, Started, Stepped, Validated

__all__ = ["Progress", "clock"]

QUIET_SECONDS = 10.0
"""Between lines where stderr is no terminal: a log should tell without drowning."""


class Progress:
    """Shows what a run tells. Use as a context manager; an instance is an `OnEvent`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None
        self._spoke = time.monotonic()
        self._began = (0.0, 0)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(f"{self._title}: preparing", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Scanned(done=done, total=total):
                self.show(f"{self._title}: looking at pictures", done, total)
            case Encoded(done=done, total=total):
                self.show(f"{self._title}: encoding pictures", done, total)
            case Started(step=step, steps=steps, images=images, targets=targets):
                self._began = (time.monotonic(), step)
                self.say(f"{self._title}: {images} pictures, {targets} targets, {steps - step} steps to go")
            case Stepped(step=step, steps=steps, loss=loss):
                self.show(f"{self._title}: training, loss {loss:.4f}", step, steps)
            case Snapshotted(step=step):
                self.say(f"{self._title}: snapshot at step {step}")
            case Validated(step=step, loss=loss):
                self.say(f"{self._title}: validation loss {loss:.4f} at step {step}")
            case Previewed(paths=paths):
                self.say(f"{self._title}: preview {paths[0]}")

    def show(self, text: str, done: int, total: int) -> None:
        """Show how far the job is."""
        if self._bar:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif time.monotonic() - self._spoke > QUIET_SECONDS or done == total:
            self._spoke = time.monotonic()
            self.say(f"{text}, {done} of {total}{self._left(done, total)}")

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(f"{text}\n")

    def _left(self, done: int, total: int) -> str:
        since, first = self._began
        if not since or done <= first or done == total:
            return ""
        return f", {clock((time.monotonic() - since) / (done - first) * (total - done))} left"


def clock(seconds: float) -> str:
    """Return seconds as people read them: 75 -> "1:15"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
