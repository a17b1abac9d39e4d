"""A plan as a form: each field a component of its kind, with its reason; and back. Nothing else knows both.

The plan's TOML is what counts: a form is written from it and into it, and whoever reads that TOML checks it.
"""

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lora_diffusion import TrainPlan
from webui.plans import OWN, read_plan
from webui.text import Text

__all__ = ["PlanForm", "plan_keys"]

FIXED = {*OWN, "base.path", "data.folder"}
"""Keys that other parts of the page decide; the form shows them."""


@dataclass(frozen=True, kw_only=True)
class PlanForm:
    """Components by `section.key`, in the order of the plan."""

    fields: dict[str, Any]

    @classmethod
    def build(cls, t: Text) -> "PlanForm":
        """Put an accordion per section onto the page, with a component per field."""
        fields: dict[str, Any] = dict.fromkeys(plan_keys())
        for section, model in _sections().items():
            with gr.Accordion(t(f"train.section_{section}"), open=False), gr.Row(equal_height=False):
                for name, field in model.model_fields.items():
                    fields[f"{section}.{name}"] = _component(f"{section}.{name}", field, t)
        return cls(fields=fields)

    @property
    def components(self) -> list[Any]:
        return list(self.fields.values())

    def values(self, text: str) -> list[Any]:
        """Return what the components show for a plan. Raises BadRequest as `read_plan` does."""
        plan = read_plan(text)
        return [_shown(_value(plan, key)) for key in self.fields]

    def text(self, values: Sequence[Any]) -> str:
        """Return what the components hold as TOML, whether it is a plan or not."""
        sections: dict[str, dict[str, Any]] = {name: {} for name in _sections()}
        for key, value in zip(self.fields, values, strict=True):
            section, name = key.split(".")
            given = _given(_sections()[section].model_fields[name].annotation, value)
            if given is not None:
                sections[section][name] = given
        return tomli_w.dumps(sections)


def plan_keys() -> list[str]:
    """Return every `section.key` of a plan, in its order."""
    return [f"{section}.{name}" for section, model in _sections().items() for name in model.model_fields]


def _sections() -> dict[str, type[BaseModel]]:
    kinds = {name: field.annotation for name, field in TrainPlan.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _value(plan: TrainPlan, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(plan, section), name)


def _component(key: str, field: FieldInfo, t: Text) -> Any:
    kind = _kind(field.annotation)
    info = t(f"plan.{key.replace('.', '_')}")
    shared = {"label": key, "info": info, "interactive": key not in FIXED, "min_width": 260}
    if kind is bool:
        return gr.Checkbox(**shared)
    if get_origin(kind) is Literal:
        return gr.Dropdown(choices=list(get_args(kind)), filterable=False, **shared)
    if kind in (int, float):
        return gr.Number(precision=0 if kind is int else None, value=None, **shared)
    return gr.Textbox(lines=1 if kind is str else 2, max_lines=8, max_length=20_000, **shared)


def _kind(annotation: Any) -> Any:
    """Return the type of a field without `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(each for each in get_args(annotation) if each is not types.NoneType)
    return annotation


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return "\n".join(f"{key} = {one}" for key, one in value.items())
    return "\n".join(map(str, value)) if isinstance(value, tuple) else value


def _given(annotation: Any, value: Any) -> Any:
    """Return what a component holds as TOML takes it; None is left out."""
    kind = _kind(annotation)
    if get_origin(kind) not in (tuple, dict):
        return value
    lines = [line.strip() for line in str(value or "").splitlines() if line.strip()]
    if get_origin(kind) is tuple:
        return lines if get_args(kind)[0] is str else [_number(line) for line in lines]
    pairs = (line.rpartition("=") for line in lines)
    return {key.strip() or value.strip(): _number(value.strip()) for key, _, value in pairs}


def _number(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
