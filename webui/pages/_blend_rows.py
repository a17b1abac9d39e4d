"""Eight rows of a mix: strength, mute, solo, where it works, and when. Those in use are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._styles import choices, kept, offered, percent

__all__ = ["ROWS", "BlendRows"]

ROWS = 8
EACH = 5
"""Fields of a row that decide its part in the mix."""

COURSES = {"whole": "", "first": "0-0.5", "last": "0.5-1", "rising": "0:0,1:1", "falling": "0:1,1:0"}
"""When over the steps a style works -> as `lora-diffusion generate --schedule` writes it."""


@dataclass(frozen=True)
class BlendRows:
    """A picker and a row for each style that is picked. `placed` are the styles that the rows belong to."""

    picker: gr.Dropdown
    placed: gr.State
    groups: list[gr.Group]
    titles: list[gr.HTML]
    fields: list[Any]
    """Slider, mute, solo, blocks and course of the first row, then of the second, and so on."""

    @classmethod
    def build(cls, ctx: Context) -> "BlendRows":
        t = ctx.t
        picker = gr.Dropdown(
            label=t("styles.pick"), info=t("blend.pick_info"), multiselect=True, max_choices=ROWS, choices=[]
        )
        groups, titles, fields = [], [], []
        presets = [(t("blend.everywhere"), "")]
        for _ in range(ROWS):
            with gr.Group(visible=False) as group:
                titles.append(gr.HTML(padding=True))
                fields.append(gr.Slider(-200, 200, value=100, step=5, interactive=True, label=t("styles.weight")))
                with gr.Row():
                    fields.append(gr.Checkbox(label=t("blend.mute"), min_width=90, elem_classes="switch"))
                    fields.append(gr.Checkbox(label=t("blend.solo"), min_width=90, elem_classes="switch"))
                    fields.append(
                        gr.Dropdown(label=t("blend.where"), choices=presets, value="", scale=2, min_width=180)
                    )
                    fields.append(
                        gr.Dropdown(label=t("blend.when"), choices=_courses(ctx), value="", scale=2, min_width=180)
                    )
            groups.append(group)
        return cls(picker, gr.State([]), groups, titles, fields)

    @property
    def inputs(self) -> list[Any]:
        return [self.picker, *self.fields]

    @property
    def outputs(self) -> list[Any]:
        """What `filled` fills in."""
        return [self.picker, self.placed, *self.fields]

    def mix(self, refs: Sequence[str] | None, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the styles as actions take them; a muted one, or one beside a solo, is at 0."""
        return [style | ({} if heard else {"weight": 0.0}) for style, heard in _each(refs or [], values)]

    def heard(self, refs: Sequence[str] | None, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the styles of a mix without those that are muted or beside a solo."""
        return [style for style, heard in _each(refs or [], values) if heard]

    def bind(self, ctx: Context) -> None:
        """Let the rows follow what is picked: each style keeps its row's values while others come and go."""

        def follow(request: gr.Request, refs: list[str], placed: list[str], *values: Any) -> list[Any]:
            known = {each.ref: each for each in ctx.act(request, "library.list", every=True)}
            refs = [ref for ref in refs or [] if ref in known]
            groups = [gr.update(visible=number < len(refs)) for number in range(ROWS)]
            titles: list[Any] = [gr.update()] * ROWS
            fields: list[Any] = [gr.update()] * len(self.fields)
            for number, version in enumerate(known[ref] for ref in refs):
                titles[number] = ctx.render("blend_title", version=version, src=ctx.thumbnail(version))
            if refs != placed:
                rows = [values[at : at + EACH] for at in range(0, len(values), EACH)]
                fields = _fields(ctx, request, kept(refs, placed, rows, lambda ref: _fresh(known[ref])))
            return [refs, *groups, *titles, *fields]

        outputs = [self.placed, *self.groups, *self.titles, *self.fields]
        ctx.on(self.picker.change, follow, [self.picker, self.placed, *self.fields], outputs, show_progress="hidden")

    def filled(self, ctx: Context, request: gr.Request, styles: Sequence[dict[str, Any]]) -> list[Any]:
        """Return updates of picker and fields that show a mix."""
        found = offered(ctx, request, styles)
        known = {each.ref for each in found}
        wanted = [each for each in styles if each["ref"] in known][:ROWS]
        rows = [
            (percent(each["weight"]), False, False, each.get("blocks", ""), each.get("schedule", "")) for each in wanted
        ]
        refs = [each["ref"] for each in wanted]
        return [gr.update(choices=choices(ctx, found), value=refs), refs, *_fields(ctx, request, rows)]


def _each(refs: Sequence[str], values: Sequence[Any]) -> list[tuple[dict[str, Any], bool]]:
    """Return the style of each row that is in use, and whether it is heard."""
    rows = [values[number * EACH : (number + 1) * EACH] for number in range(len(refs))]
    soloed = any(row[2] for row in rows)
    return [
        (
            {"ref": ref, "weight": weight / 100, "blocks": blocks or "", "schedule": course or ""},
            not mute and (bool(solo) or not soloed),
        )
        for ref, (weight, mute, solo, blocks, course) in zip(refs, rows, strict=True)
    ]


def _fresh(version: Any) -> tuple[Any, ...]:
    return percent(version.details.weight), False, False, "", ""


def _fields(ctx: Context, request: gr.Request, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Return updates of all fields that show these rows; those that are not in use begin anew."""
    presets, courses = [(ctx.t("blend.everywhere"), "")], _courses(ctx)
    for each in ctx.act(request, "blend.presets"):
        presets.append((ctx.t(f"blend.preset_{each.name.replace('-', '_')}"), each.name))
    fields: list[Any] = []
    for strength, mute, solo, blocks, course in [*rows, *[(100, False, False, "", "")] * (ROWS - len(rows))]:
        fields += [gr.update(value=strength), mute, solo, _choosing(presets, blocks), _choosing(courses, course)]
    return fields


def _courses(ctx: Context) -> list[tuple[str, str]]:
    return [(ctx.t(f"blend.course_{name}"), value) for name, value in COURSES.items()]


def _choosing(offers: Sequence[tuple[str, str]], value: str) -> Any:
    """Return an update of a list; what it does not offer, of a recipe or a picture, is offered as it is written."""
    known = value in {each for _, each in offers}
    return gr.update(choices=[*offers, *([] if known else [(value, value)])], value=value)
