"""Plan sections to and from TOML, with `section.key=value` overrides. An unknown key is an error."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lora_diffusion.errors import PlanError

__all__ = ["Section", "from_text", "from_toml", "keys", "to_toml"]

Plan = TypeVar("Plan", bound=BaseModel)


class Section(BaseModel):
    """A frozen group of settings; each field carries its reason as `description`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def from_toml(plan: type[Plan], path: Path | None, overrides: Iterable[str] = ()) -> Plan:
    """Read a plan from a TOML file and apply overrides, which win.

    Raises PlanError naming the file or override, the key, what is allowed and the nearest spelling.
    """
    values = _read(path) if path else {}
    _require_known(plan, values, str(path))
    for override in overrides:
        _apply(plan, values, override)
    return _validated(plan, values, _source(path))


def from_text(plan: type[Plan], text: str, *, name: str = "plan") -> Plan:
    """Read a plan from TOML that is in memory; `name` is what errors call it. Raises PlanError as `from_toml` does."""
    values = _parsed(text, name)
    _require_known(plan, values, name)
    return _validated(plan, values, f"change it in the {name}")


def to_toml(plan: BaseModel) -> str:
    """Return the plan as TOML; a value of None is left out, since that is what its absence means."""
    import tomli_w

    sections = plan.model_dump(mode="json", exclude_none=True)
    return tomli_w.dumps(sections)


def keys(plan: type[BaseModel]) -> list[str]:
    """Return every `section.key` of a plan."""
    return [f"{section}.{key}" for section, model in _sections(plan).items() for key in model.model_fields]


def _sections(plan: type[BaseModel]) -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in plan.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text("utf-8-sig"), str(path))
    except FileNotFoundError:
        raise PlanError(f"there is no plan at {path}", hint="start from a file of configs/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(str(path), error) from None


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> PlanError:
    return PlanError(
        f"{name} is not readable as TOML: {error}",
        hint="strings need quotes, and single ones where they hold backslashes: folder = 'C:\\photos'",
    )


def _require_known(plan: type[BaseModel], values: Mapping[str, Any], source: str) -> None:
    """Raise PlanError for the first section or key that a plan does not have."""
    for section, content in values.items():
        _known_section(plan, section, source)
        if not isinstance(content, dict):
            raise PlanError(f"{source}: {section} is a section", hint=f"write [{section}] and its keys below it")
        for key in content:
            _known_key(plan, f"{section}.{key}", source)


def _validated(plan: type[Plan], values: Mapping[str, Any], hint: str) -> Plan:
    try:
        return plan.model_validate(values)
    except ValidationError as error:
        raise PlanError("; ".join(_sentence(each) for each in error.errors()), hint=hint) from None


def _apply(plan: type[Plan], values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or key.count(".") != 1:
        raise PlanError(f"{override!r} is not an override", hint="write section.key=value, as in optim.lr=1e-4")
    _known_key(plan, key, "override")
    section, name = key.split(".")
    field = _sections(plan)[section].model_fields[name]
    values.setdefault(section, {})[name] = _value(text, field.annotation)


def _value(text: str, annotation: Any) -> Any:
    """Read an override as its field needs it: text needs no quotes, lists may be written a,b,c."""
    if annotation is str:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.split(",") if "tuple" in str(annotation) else text


def _known_section(plan: type[BaseModel], section: str, source: str) -> None:
    if section not in _sections(plan):
        raise PlanError(f"{source}: unknown section [{section}]", hint=_nearest(section, _sections(plan)))


def _known_key(plan: type[BaseModel], key: str, source: str) -> None:
    section = key.split(".")[0]
    _known_section(plan, section, source)
    if key not in keys(plan):
        allowed = [each for each in keys(plan) if each.startswith(f"{section}.")]
        raise PlanError(f"{source}: unknown key {key}", hint=_nearest(key, allowed))


def _nearest(word: str, allowed: Iterable[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    given = error.get("input")
    value = f" (given: {given!r})" if not isinstance(given, dict) else ""
    return f"{place}: {error['msg'].removeprefix('Value error, ')}{value}"


def _source(path: Path | None) -> str:
    return f"change it in {path} or as an override section.key=value" if path else "give it as section.key=value"
