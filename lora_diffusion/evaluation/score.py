"""What one metric found, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Plain", "Score", "Tone", "missing", "rounded"]

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON holds."""

Tone = Literal["good", "warns", "bad", "plain"]
"""How a verdict is meant: `plain` says something without judging it."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure with what it means; where it could not be measured `value` is None and `missing` says what to give.

    `by_weight` holds the same figure at each weight of the adapter, `details` whatever stands behind it.
    """

    value: float | None
    unit: str = ""
    verdict: str = ""
    tone: Tone = "plain"
    by_weight: Mapping[float, float] = field(default_factory=dict)
    details: Mapping[str, Plain] = field(default_factory=dict)
    missing: str = ""

    def to_dict(self) -> dict[str, Plain]:
        """Return it as JSON holds it; weights become text such as "0.8"."""
        return {
            "value": rounded(self.value),
            "unit": self.unit,
            "measured": self.value is not None,
            "missing": self.missing,
            "verdict": self.verdict,
            "tone": self.tone,
            "by_weight": {f"{weight:g}": rounded(value) for weight, value in self.by_weight.items()},
            "details": rounded(dict(self.details)),
        }


def missing(reason: str) -> Score:
    """Return the score of what could not be measured: never a made-up number."""
    return Score(value=None, missing=f"not measured: {reason}")


def rounded(value: Plain) -> Plain:
    """Return a value with every number at six significant digits: the last bits differ between machines."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return {key: rounded(each) for key, each in value.items()}
