"""What a run tells while it works. The command line draws bars of it, the browser a page; training knows neither."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Encoded", "Event", "OnEvent", "Previewed", "Snapshotted", "Started", "Stepped", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run."""


@dataclass(frozen=True, kw_only=True)
class Encoded(Event):
    """`done` of `total` pictures are encoded; `cached` of them came from the cache."""

    done: int
    total: int
    cached: int


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
    """One optimiser step is done. `loss` is the mean over the global batch, `seconds` the time of the step."""

    step: int
    steps: int
    loss: float
    norm: float
    lr: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Snapshotted(Event):
    step: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Previewed(Event):
    step: int
    paths: tuple[Path, ...]


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Tell nobody."""
