"""Caption edits as forms and scripts ask for them: a name and its options, checked before anything is edited."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from datasets_tools.edit import EDITS, Edit
from datasets_tools.errors import InvalidSetting

__all__ = ["edit_named"]


def edit_named(name: str, options: Mapping[str, Any]) -> Edit:
    """Return the edit of a name: `edit_named("replace", {"old": "cat", "new": "dog"})`.

    Raises InvalidSetting for a name or an option that there is not, one that is missing or of another type, and a value
    that the edit refuses.
    """
    if name not in EDITS:
        near = difflib.get_close_matches(name, EDITS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InvalidSetting(f"there is no caption edit {name!r}{meant}", hint=f"choose one of {', '.join(EDITS)}")
    kind: Any = EDITS[name]
    known = {field.name: field for field in fields(kind)}
    for key, value in options.items():
        if key not in known:
            raise InvalidSetting(f"{name} has no {key}", hint=f"it takes {', '.join(known)}")
        if not _is(value, known[key].type):
            raise InvalidSetting(f"{key} of {name} is {value!r}", hint=f"it is a {_said(known[key].type)}")
    missing = [key for key, field in known.items() if field.default is MISSING and key not in options]
    if missing:
        raise InvalidSetting(f"{name} needs {missing[0]}", hint=f"it takes {', '.join(known)}")
    made: Edit = kind(**options)
    return made


def _is(value: object, kind: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) if kind is float else type(value) is kind


def _said(kind: object) -> str:
    return {str: "text", int: "whole number", float: "number", bool: "yes or no"}.get(kind, str(kind))  # type: ignore[call-overload,no-any-return]
