"""One thing that is worth knowing about a data set."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["blocks", "warns", "notes"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A stable code, how serious it is, the file (relative, POSIX; "" for the whole set), why, and what to do.

    blocks: training would fail or leave a picture out. warns: the result will suffer. notes: handled; good to know.
    """

    code: str
    severity: Severity
    file: str
    reason: str
    remedy: str
