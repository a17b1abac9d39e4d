"""How far a result is from what was meant, per module and in total."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Report", "report_of"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Relative Frobenius errors of weight deltas: 0 is exact, 1 is everything lost."""

    total: float
    layers: Mapping[str, float]

    def to_dict(self) -> dict[str, object]:
        return {"total": self.total, "layers": dict(self.layers)}


def report_of(sizes: Mapping[str, tuple[float, float]]) -> Report:
    """Return the report of (norm of the error, norm of what was meant) per module."""
    layers = {name: _share(error, meant) for name, (error, meant) in sizes.items()}
    error = math.sqrt(math.fsum(each[0] ** 2 for each in sizes.values()))
    meant = math.sqrt(math.fsum(each[1] ** 2 for each in sizes.values()))
    return Report(total=_share(error, meant), layers=layers)


def _share(error: float, meant: float) -> float:
    """An error where nothing was meant counts as a whole one: a ratio to zero would be no number."""
    if meant == 0:
        return 0.0 if error == 0 else 1.0
    return error / meant
