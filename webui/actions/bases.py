"""Base models: the one that comes with the package, and those in the folders that the studio was started with."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from webui.actions import At, action
from webui.commands import run_cli
from webui.errors import BadRequest, NotFound

__all__ = ["DEMO", "PURPOSES", "Base", "Name", "path_of", "purpose_of"]

DEMO = "demo"
Name = Annotated[str, Field(max_length=200)]

PURPOSES = {"square": (1, 1), "story": (9, 16), "banner": (3, 1), "a4": (210, 297), "photo": (3, 2)}
"""What pictures are for -> width to height."""

Purpose = Literal["square", "story", "banner", "a4", "photo"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model, or what looks like one; then `problem` says why it cannot be chosen.

    `name` is how the studio calls it; where it lies stays on the server. `bytes` is 0 for the demo's.
    """

    name: str
    family: str
    resolution: int
    bytes: int = 0
    problem: str = ""
    hint: str = ""
    current: bool = False


@action(role="viewer", writes=False)
def current(at: At) -> dict[str, Any]:
    """Return the base model that pictures are drawn with unless another is chosen."""
    name = at.studio.shared_setting("base", DEMO)
    known = {each["name"]: each for each in _kept(at)}
    found = known.get(name, {})
    return {"base": name, "family": found.get("family", "sd1"), "resolution": found.get("resolution", 128)}


@action(role="viewer", writes=False, same_as="bases")
def list_(at: At, *, look: bool = False) -> list[Base]:
    """List the base models that can be chosen; `look` reads the folders anew, which takes some seconds."""
    folders = json.loads(at.studio.shared_setting("models", "[]"))
    if folders and (look or not at.studio.shared_setting("bases")):
        found = run_cli(["bases", *folders])["bases"]
        at.studio.keep_shared_setting("bases", json.dumps(_named(found)))
    chosen = at.studio.shared_setting("base", DEMO)
    demo = Base(name=DEMO, family="sd1", resolution=128, current=chosen == DEMO)
    kept = [
        Base(
            name=each["name"],
            family=each["family"],
            resolution=each["resolution"],
            bytes=each["bytes"],
            problem=each["problem"],
            hint=each["hint"],
            current=each["name"] == chosen,
        )
        for each in _kept(at)
    ]
    return [demo, *kept]


@action(role="admin")
def choose(at: At, *, name: Annotated[Name, Field(min_length=1)]) -> dict[str, Any]:
    """Choose the base model that pictures are drawn with and styles are taught on."""
    path_of(at, name)
    found = next((each for each in _kept(at) if each["name"] == name), None)
    if found and found["problem"]:
        raise BadRequest(f"{name} cannot be used: {found['problem']}", hint=found["hint"])
    at.studio.keep_shared_setting("base", name)
    return {"base": name}


@action(role="viewer", writes=False)
def size(at: At, *, purpose: Purpose = "square") -> dict[str, int]:
    """Return width and height in pixels that suit the current base model for what a picture is for."""
    side = int(current(at)["resolution"])
    wide, high = PURPOSES[purpose]
    ratio = (wide / high) ** 0.5
    return {"width": _on_grid(side * ratio), "height": _on_grid(side / ratio)}


def purpose_of(at: At, width: int, height: int) -> Purpose:
    """Return what a picture of this size is for, or the nearest by its shape."""
    known: tuple[Purpose, ...] = get_args(Purpose)
    exact = [each for each in known if size(at, purpose=each) == {"width": width, "height": height}]
    return min(exact or known, key=lambda each: abs(math.log(width / height * PURPOSES[each][1] / PURPOSES[each][0])))


def path_of(at: At, name: str) -> str:
    """Return what the command line calls a base model; an empty name is the current one. Raises NotFound."""
    name = name or at.studio.shared_setting("base", DEMO)
    if name == DEMO:
        return DEMO
    known = {each["name"]: each["path"] for each in _kept(at)}
    if name not in known:
        raise NotFound(f"there is no base model {name}", hint=f"there are: {', '.join([DEMO, *known])}")
    return str(known[name])


def _kept(at: At) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(at.studio.shared_setting("bases", "[]"))
    return found


def _named(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each a name of its own: two folders may hold models of one name."""
    taken: set[str] = {DEMO}
    named = []
    for each in found:
        name = each["name"] if each["name"] not in taken else f"{Path(each['path']).parent.name}/{each['name']}"
        taken.add(name)
        named.append({**each, "name": name})
    return named


def _on_grid(side: float) -> int:
    return max(64, round(side / 8) * 8)
