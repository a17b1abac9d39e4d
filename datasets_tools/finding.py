"""One thing that is worth knowing about a data set."""

from dataclasses import dataclass
from functools import lru_cache
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
    return Finding(code=code, severity="blocks", file=file, reason=_once(reason), remedy=_once(remedy))


def warns(code: str, file: str, reason: str, remedy: str) -> Finding:
    """Return a finding that the result will suffer from."""
    return Finding(code=code, severity="warns", file=file, reason=_once(reason), remedy=_once(remedy))


def notes(code: str, file: str, reason: str, remedy: str) -> Finding:
    """Return a finding that is handled, and good to know."""
    return Finding(code=code, severity="notes", file=file, reason=_once(reason), remedy=_once(remedy))


@lru_cache(maxsize=4096)  # most findings of a large set say one of a few things; each text would be 150 bytes again
def _once(text: str) -> str:
    return text
