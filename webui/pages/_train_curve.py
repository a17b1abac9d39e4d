"""The loss of a training as a drawing and as a table."""

from typing import Any

from webui.context import Context

__all__ = ["curve"]

WIDTH, HEIGHT = 640, 220
"""Of the drawing, in its own units; it grows and shrinks with the page."""

ROWS = 20
"""Of the table beside the drawing."""


def curve(ctx: Context, found: Any) -> tuple[str, str]:
    """Return loss by step as a drawing and as a table: each step, the average, the held-out pictures.

    Both are empty before there are two points.
    """
    if len(found.steps) < 2:
        return "", ""
    tests = [each for each in found.validation if each[0] <= found.steps[-1]]
    low, high = _bounds([*found.smoothed, *(loss for _, loss in tests)], found.loss)

    def place(step: float, loss: float) -> tuple[float, float]:
        across = (step - found.steps[0]) / (found.steps[-1] - found.steps[0])
        up = (min(max(loss, low), high) - low) / (high - low)
        return round(across * WIDTH, 1), round((1 - up) * HEIGHT, 1)

    def line(points: Any) -> str:
        return " ".join(f"{x},{y}" for x, y in (place(step, loss) for step, loss in points))

    stride = -(-len(found.steps) // ROWS)
    rows = list(zip(found.steps, found.loss, found.smoothed, strict=True))[::-1][::stride]
    drawn = ctx.render(
        "train_curve",
        width=WIDTH,
        height=HEIGHT,
        raw=line(zip(found.steps, found.loss, strict=True)),
        smooth=line(zip(found.steps, found.smoothed, strict=True)),
        tested=line(tests),
        dots=[place(*each) for each in tests],
        low=low,
        high=high,
        first=found.steps[0],
        last=found.steps[-1],
        ends=(found.smoothed[0], found.smoothed[-1]),
        verdict=_verdict(tests),
    )
    return drawn, ctx.render("train_table", rows=rows, tests=tests)


def _bounds(calm: list[float], every: tuple[float, ...]) -> tuple[float, float]:
    """Return the losses between which is drawn: single odd steps are cut off, or the rest would be a flat line."""
    ordered = sorted(every)
    low = min([*calm, ordered[len(ordered) // 50]])
    high = max([*calm, ordered[-1 - len(ordered) // 50]])
    return (low, high) if high > low else (low, low + 1e-6)


def _verdict(tests: list[tuple[int, float]]) -> dict[str, Any] | None:
    """Say what the held-out pictures tell: learning since the first look, copying since the best one, or neither.

    None while they tell nothing. Less than 3 % is what other noise would make of it.
    """
    if len(tests) < 3:
        return None
    step, best = min(tests, key=lambda each: each[1])
    (begun, first), (_, last) = tests[0], tests[-1]
    if last > best * 1.03 and step < tests[-2][0]:
        return {"key": "copies", "step": step, "best": best, "last": last}
    key = "learns" if last < first * 0.97 else "steady"
    return {"key": key, "step": begun, "best": first, "last": last}
