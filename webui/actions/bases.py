"""Base models: the one that comes with the package, and those found in the folders that an admin named at the start."""

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from webui.actions import At, action
from webui.errors import NotFound

__all__ = ["DEMO", "Base", "Name", "path_of"]

DEMO = "demo"
Name = Annotated[str, Field(min_length=1, max_length=80)]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model that can be chosen. `name` is how the studio calls it; where it lies stays on the server."""

    name: str
    family: str
    path: str
    resolution: int = 0


@action(role="viewer", writes=False)
def current(at: At) -> dict[str, str]:
    """Return the base model that pictures are drawn with unless another is chosen."""
    return {"base": _setting(at, "base", DEMO)}


def path_of(at: At, name: str) -> str:
    """Return what the command line calls a base model; an empty name is the current one. Raises NotFound."""
    name = name or _setting(at, "base", DEMO)
    if name == DEMO:
        return DEMO
    known = {each["name"]: each["path"] for each in json.loads(_setting(at, "bases", "[]"))}
    if name not in known:
        raise NotFound(f"there is no base model {name}", hint=f"there are: {', '.join([DEMO, *known])}")
    return str(known[name])


def _setting(at: At, key: str, default: str) -> str:
    row = at.studio.store.row("select value from settings where user = '' and key = ?", (key,))
    return str(row["value"]) if row else default
