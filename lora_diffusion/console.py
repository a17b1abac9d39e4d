"""What the commands share: results go to stdout, with --json as exactly one object; everything else goes to stderr."""

import json
import re
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

__all__ = ["Json", "answer", "now", "say"]

# Names of files may hold what a terminal obeys: colours, its title, an earlier line written over.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


def answer(found: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result: as one JSON object, or as text."""
    sys.stdout.write((json.dumps(found, ensure_ascii=False) if as_json else _harmless(text)) + "\n")


def now() -> str:
    """Return the time as a history tells it, with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def say(text: str) -> None:
    """Tell the person something that is no result."""
    sys.stderr.write(f"{_harmless(text)}\n")


def _harmless(text: str) -> str:
    return _OBEYED.sub("\ufffd", text)
