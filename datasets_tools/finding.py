"""One thing that is worth knowing about a data set."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Severity", "blocks", "notes", "warns"]

Severity = Literal["blocks", "warns", "notes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A stable code, how serious it is, the file (relative, POSIX; "" for the whole set), why, and what to do.

    blocks: training would fail or leave a picture out. warns: the result will suffer. notes: handled; good to know.
    """

    code: str
    severity: Severity
    file: str
    reason: str
    remedy: str


def blocks(code: str, file: str, reason: str, remedy: str) -> Finding:
    """Return a finding that forbids training."""
    return Finding(code=code, severity="blocks", file=file, reason=reason, remedy=remedy)


def warns(code: str, file: str, reason: str, remedy: str) -> Finding:
    """Return a finding that the result will suffer from."""
    return Finding(code=code, severity="warns", file=file, reason=reason, remedy=remedy)


def notes(code: str, file: str, reason: str, remedy: str) -> Finding:
    """Return a finding that is handled, and good to know."""
    return Finding(code=code, severity="notes", file=file, reason=reason, remedy=remedy)
