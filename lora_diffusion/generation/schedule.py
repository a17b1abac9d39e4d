"""An adapter's weight over the steps of a picture, as people write it: `0-0.5`, or `0:0.2,1:1`."""

import math
import re
from dataclasses import dataclass

from lora_diffusion.errors import UsageError

__all__ = ["Schedule", "parse_schedule"]

MAX_POINTS = 64
_HINT = "write a share of the steps such as 0-0.5, or points such as 0:0.2,1:1 (share of the steps: factor)"
_SHARE = r"\s*([0-9.]+(?:e[-+]?[0-9]+)?)\s*"
_WINDOW = re.compile(f"{_SHARE}-{_SHARE}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What an adapter's weight is multiplied with over the steps: (share of the steps, factor), linear in between.

    Shares ascend from 0 to 1. Where two points have the same share the factor jumps, and the later one holds from
    there. Before the first point its factor holds, after the last that of the last. The prompt is read once, before
    the steps: in text encoders an adapter keeps its weight. Raises UsageError.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= MAX_POINTS:
            raise UsageError(f"a schedule has 1 to {MAX_POINTS} points, not {len(self.points)}", hint=_HINT)
        if any(not (0 <= share <= 1 and math.isfinite(factor)) for share, factor in self.points):
            raise UsageError(f"the schedule {self} has a share outside 0 to 1, or no finite factor", hint=_HINT)
        shares = [share for share, _ in self.points]
        if shares != sorted(shares):
            raise UsageError(f"the shares of the schedule {self} do not ascend", hint=_HINT)

    @classmethod
    def window(cls, start: float, end: float) -> "Schedule":
        """Return what is 1 from one share of the steps to another and 0 outside. Raises UsageError."""
        if not 0 <= start < end <= 1:
            raise UsageError(f"steps {start:g} to {end:g} are no part of 0 to 1", hint=_HINT)
        before = ((0.0, 0.0), (start, 0.0)) if start > 0 else ()
        after = ((end, 0.0), (1.0, 0.0)) if end < 1 else ()
        return cls(points=(*before, (start, 1.0), (end, 1.0), *after))

    def at(self, step: int, steps: int) -> float:
        """Return the factor of a step, counted from 0; it is taken at the middle of the step's share."""
        here = (step + 0.5) / steps
        before = [point for point in self.points if point[0] <= here]
        after = [point for point in self.points if point[0] > here]
        if not before or not after:
            return (before or after[:1])[-1][1]
        (left, low), (right, high) = before[-1], after[0]
        return low + (high - low) * (here - left) / (right - left)

    def __str__(self) -> str:
        """Return what `parse_schedule` reads as this very value."""
        active = [share for share, factor in self.points if factor == 1.0]
        if len(active) == 2 and active[0] < active[1] and self.points == Schedule.window(*active).points:
            return f"{active[0]!r}-{active[1]!r}"
        return ",".join(f"{share!r}:{factor!r}" for share, factor in self.points)


def parse_schedule(text: str) -> Schedule:
    """Read `START-END`, or `SHARE:FACTOR,SHARE:FACTOR,...`. Raises UsageError naming what cannot be read."""
    try:
        if found := _WINDOW.fullmatch(text):
            return Schedule.window(float(found[1]), float(found[2]))
        pairs = [word.split(":") for word in text.split(",")]
        points = tuple((float(share), float(factor)) for share, factor in pairs)
    except ValueError:
        raise UsageError(f"{text!r} is no schedule", hint=_HINT) from None
    return Schedule(points=points)
