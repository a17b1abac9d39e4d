"""Names of adapters, and references such as brand, brand@3 and brand@approved.

A name is data: it is never part of a path in the library. The rules keep it readable, typable in a reference, and fit
for a file name on every system when it is exported.
"""

import re
import unicodedata
from dataclasses import dataclass

from lora_diffusion.errors import UsageError

__all__ = ["APPROVED", "Reference", "is_id", "key_of", "parse_reference", "require_name"]

MAX_NAME = 64
APPROVED = "approved"
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)
_HASH = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}")  # ids and fingerprints, which stand where names do
_EXTRA = frozenset("-_. ")
_HINT = "use letters, digits, - _ . and spaces, at most 64, for example Autumn 2026"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """`which` is a number as text, "approved", or nothing for the current version."""

    name: str
    which: str = ""


def require_name(name: str) -> str:
    """Return a name in composed form (NFC), which other systems may have decomposed.

    Raises UsageError for anything but letters, digits, - _ . and single spaces, for more than 64 of them, for names
    that Windows reserves, and for those that look like a hidden file, a path or an adapter file.
    """
    whole = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
    if problem := _problem(whole):
        raise UsageError(f"{_shown(name)} cannot be a name: {problem}", hint=_HINT)
    return whole


def _problem(name: str) -> str:
    wrong = next((each for each in name if not _allowed(each)), "")
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it has {len(name)} letters, more than {MAX_NAME}"
    if wrong:
        return f"it holds {wrong!r}"
    if not any(each.isalnum() for each in name):
        return "it has neither letter nor digit"
    if name != name.strip(" .") or "  " in name or ".." in name:
        return "it begins or ends with a space or dot, or has two in a row"
    if _RESERVED.fullmatch(name):
        return "Windows reserves it"
    if name.lower().endswith(".safetensors"):
        return "it looks like a file"
    return "it looks like a hash" if _HASH.fullmatch(name) else ""


def _allowed(letter: str) -> bool:
    """Letters, the marks that some scripts write with them, and decimal digits."""
    kind = unicodedata.category(letter)
    return letter in _EXTRA or kind[0] in "LM" or kind == "Nd"


def key_of(name: str) -> str:
    """Return what two names share that only differ in case or width, and so may not both exist."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def parse_reference(ref: str) -> Reference:
    """Read NAME, NAME@NUMBER or NAME@approved; an id may stand for NAME. Raises UsageError for another form."""
    name, at, which = ref.partition("@")
    if at and which != APPROVED and not re.fullmatch(r"[1-9][0-9]{0,8}", which):
        raise UsageError(
            f"{_shown(ref)} names no version", hint="write NAME, NAME@NUMBER or NAME@approved, for example brand@3"
        )
    return Reference(name=name if is_id(name) else require_name(name), which=which)


def is_id(text: str) -> bool:
    """Say whether a text is the id of a name, which no name can be."""
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def _shown(name: object) -> str:
    """Quote a name so that nothing in it reaches a terminal."""
    text = repr(name)  # which writes what cannot be printed as \\x1b
    return text if len(text) <= 80 else f"{text[:77]}..."
