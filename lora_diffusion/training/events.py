"""What a run tells while it works. The command line draws bars of it, the browser a page; training knows neither."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Encoded",
    "Event",
    "OnEvent",
    "Previewed",
    "Scanned",
    "Snapshotted",
    "Started",
    "Stepped",
    "Validated",
    "ignore",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run."""


@dataclass(frozen=True, kw_only=True)
class Scanned(Event):
    """`done` of `total` picture files are looked at."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Encoded(Event):
    """`done` of `total` pictures are encoded, each view and size counted; `cached` of them came from the cache.

    `seconds` is the time that the last one took to encode, 0 where it came from the cache.
    """

    done: int
    total: int
    cached: int
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """Training begins at `step` of `steps`."""

    step: int
    steps: int
    images: int
    targets: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """One optimiser step is done.

    `loss` is the mean over the style pictures of the global batch, `pictures` their files relative to data.folder, a
    repeated one as often as it was shown; `seconds` is the time of the step.
    """

    step: int
    steps: int
    loss: float
    norm: float
    lr: float
    seconds: float
    pictures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshotted(Event):
    step: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Previewed(Event):
    step: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """`loss` is the mean over the validation pictures after `step` steps."""

    step: int
    loss: float


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Tell nobody."""
