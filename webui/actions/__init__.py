"""What can be done in the studio: one table, which pages, REST and the command line share.

An action is a function `do(at, *, …)` with annotated arguments. Its role, the limits of its arguments and the record of
who did it are looked after here, in `act`, and nowhere else. A new action is a function in a file of this folder.
"""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from webui.errors import BadRequest, NotAllowed, NotFound
from webui.users import Role, User, allows

if TYPE_CHECKING:
    from webui.studio import Studio

__all__ = ["Action", "At", "WrongArguments", "act", "action", "actions", "as_json"]


class WrongArguments(BadRequest):
    """Arguments that an action does not take. The hint lists those that it does, for who writes them by hand."""


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class At:
    """Where and by whom something is done. `when` is UTC in ISO 8601."""

    studio: "Studio"
    user: User
    when: str


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing that can be done.

    `same_as` names the verb of the command line that does the same to files, where there is one. What `writes` is
    recorded in the audit.
    """

    name: str
    role: Role
    says: str
    same_as: str
    writes: bool
    function: Callable[..., Any]
    arguments: type[BaseModel]


def action(*, role: Role, writes: bool = True, same_as: str = "") -> Callable[[F], F]:
    """Put a function into the table as MODULE.FUNCTION; `list_` is called list."""

    def register(function: F) -> F:
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.rstrip('_')}"
        _TABLE[name] = Action(
            name=name,
            role=role,
            says=(inspect.getdoc(function) or "").partition("\n")[0],
            same_as=same_as,
            writes=writes,
            function=function,
            arguments=_arguments(name, function),
        )
        return function

    return register


_TABLE: dict[str, Action] = {}


@cache
def actions() -> Mapping[str, Action]:
    """Return every action by name, in order."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(_TABLE.items()))


def act(studio: "Studio", user: User, name: str, /, **arguments: Any) -> Any:
    """Do one action as a user. Raises NotFound, NotAllowed, BadRequest, and what the action itself raises."""
    found = actions().get(name)
    if found is None:
        raise NotFound(f"there is no action {name}", hint="GET /api lists them")
    if not allows(user, found.role):
        raise NotAllowed(f"{user.name} is {user.role}; this needs {found.role}", hint="ask an admin for the role")
    try:
        given = found.arguments(**arguments)
    except ValidationError as error:
        raise WrongArguments(_first(error), hint=f"{name} takes {_names(found) or 'nothing'}") from None
    at = At(studio=studio, user=user, when=datetime.now(UTC).isoformat(timespec="seconds"))
    result = found.function(at, **{field: getattr(given, field) for field in found.arguments.model_fields})
    if found.writes:
        studio.record(name, by=user.name, when=at.when, said=_recorded(given))
    return result


def as_json(value: Any, address: Callable[[Path], str] = str, told: Callable[[str], str] = str) -> Any:
    """Return what an action gave as plain JSON values. An iterator is run.

    `address` says how a file is called, `told` how a text is told.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(each, address, told) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | Iterator):
        return [as_json(each, address, told) for each in value]
    if isinstance(value, Path):
        return address(value)
    return told(value) if isinstance(value, str) else value


def _arguments(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    annotations = inspect.get_annotations(function, eval_str=True)
    for each in list(inspect.signature(function).parameters.values())[1:]:
        assert each.kind is each.KEYWORD_ONLY, f"{name}: {each.name} has to be keyword-only"
        fields[each.name] = (annotations[each.name], ... if each.default is each.empty else each.default)
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model(name, __config__=settings, **fields)


def _names(found: Action) -> str:
    return ", ".join(found.arguments.model_fields)


def _first(error: ValidationError) -> str:
    """Say in plain words what is wrong with the first of the arguments that are."""
    found = error.errors(include_url=False, include_input=False)[0]
    path = [str(each) for each in found["loc"]]
    names = [each for each in path if re.fullmatch("[a-z_]+", each) and each not in _TYPES]
    name = (names or path or ["the argument"])[-1].replace("_", " ")
    said = _SAID.get(found["type"])
    if found["type"] == "string_too_short" and found.get("ctx", {}).get("min_length") == 1:
        said = "{name} is empty"
    return said.format(name=name, **found.get("ctx", {})) if said else f"{name}: {found['msg']}"


_TYPES = {"bool", "float", "int", "none", "str"}
"""Members of a union, which stand among the names of where something is wrong."""

_SAID = {
    "missing": "{name} is missing",
    "extra_forbidden": "{name} is not known here",
    "string_too_short": "{name} is shorter than {min_length} characters",
    "string_too_long": "{name} is longer than {max_length} characters",
    "string_pattern_mismatch": "{name} is not written as it has to be",
    "string_type": "{name} has to be a text",
    "greater_than_equal": "{name} has to be at least {ge}",
    "greater_than": "{name} has to be more than {gt}",
    "less_than_equal": "{name} has to be at most {le}",
    "less_than": "{name} has to be less than {lt}",
    "multiple_of": "{name} has to be a multiple of {multiple_of}",
    "int_parsing": "{name} has to be a whole number",
    "int_from_float": "{name} has to be a whole number",
    "int_type": "{name} has to be a whole number",
    "float_parsing": "{name} has to be a number",
    "float_type": "{name} has to be a number",
    "bool_parsing": "{name} has to be yes or no",
    "literal_error": "{name} has to be {expected}",
    "too_long": "{name} holds more than {max_length}",
    "too_short": "{name} holds fewer than {min_length}",
}
"""Kind of pydantic's error -> sentence."""


def _recorded(given: BaseModel) -> dict[str, Any]:
    """Return the arguments as the audit keeps them: secrets left out, long texts and lists cut."""
    return {key: "…" if key in _SECRET else _cut(value) for key, value in given.model_dump(mode="json").items()}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        value = _FOLDER.sub("", value)
        return f"{value[:LONGEST]}…" if len(value) > LONGEST else value
    if isinstance(value, dict):
        return {key: _cut(each) for key, each in value.items()}
    if isinstance(value, list):
        return [*map(_cut, value[:MOST]), *([f"… {len(value)} in all"] if len(value) > MOST else [])]
    return value


LONGEST, MOST = 500, 20
"""Letters of a text and values of a list that the audit keeps."""

_SECRET = {"password", "token"}
_FOLDER = re.compile("^(?:/.*/)?[0-9a-f]{64}/")
"""Of an upload, which nobody else has to know: it is all that keeps uploads of an earlier process apart."""
