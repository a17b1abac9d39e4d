"""Eight rows of a mix: strength, mute, solo, where it works, and when. Those in use are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["ROWS", "BlendRows"]

ROWS = 8
EACH = 5
"""Fields of a row that decide its part in the mix."""

COURSES = {"whole": "", "first": "0-0.5", "last": "0.5-1", "rising": "0:0,1:1", "falling": "0:1,1:0"}
"""When over the steps a style works -> as `lora-diffusion generate --schedule` writes it."""


@dataclass(frozen=True)
class BlendRows:
    """A picker and a row for each style that is picked."""

    picker: gr.Dropdown
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
                    courses = [(t(f"blend.course_{name}"), value) for name, value in COURSES.items()]
                    fields.append(gr.Dropdown(label=t("blend.when"), choices=courses, value="", scale=2, min_width=180))
            groups.append(group)
        return cls(picker, groups, titles, fields)

    @property
    def inputs(self) -> list[Any]:
        return [self.picker, *self.fields]

    def mix(self, refs: Sequence[str] | None, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the styles as actions take them; a muted one, or one beside a solo, is at 0."""
        rows = [values[number * EACH : (number + 1) * EACH] for number in range(len(refs or []))]
        soloed = any(row[2] for row in rows)
        return [
            {
                "ref": ref,
                "weight": 0.0 if mute or (soloed and not solo) else weight / 100,
                "blocks": blocks or "",
                "schedule": course or "",
            }
            for ref, (weight, mute, solo, blocks, course) in zip(refs or [], rows, strict=True)
        ]

    def shown(self, ctx: Context, request: gr.Request, refs: Sequence[str] | None) -> list[Any]:
        """Return updates of groups and titles for the styles that are picked."""
        known = {each.ref: each for each in ctx.act(request, "library.list", every=True)}
        picked = [known[ref] for ref in refs or [] if ref in known]
        groups = [gr.update(visible=number < len(picked)) for number in range(ROWS)]
        titles = [ctx.render("blend_title", version=version, src=ctx.thumbnail(version)) for version in picked]
        return [*groups, *titles, *[gr.update()] * (ROWS - len(picked))]

    def filled(self, ctx: Context, request: gr.Request, styles: Sequence[dict[str, Any]]) -> list[Any]:
        """Return updates of picker and fields that show a mix."""
        versions = [each for each in ctx.act(request, "library.list") if each.stage != "retired"]
        choices = [(f"{each.name} · {ctx.t(f'common.{each.stage}')}", each.ref) for each in versions]
        known = {ref for _, ref in choices}
        wanted = [each for each in styles if each["ref"] in known][:ROWS]
        presets = [(ctx.t("blend.everywhere"), "")]
        for each in ctx.act(request, "blend.presets"):
            presets.append((ctx.t(f"blend.preset_{each.name.replace('-', '_')}"), each.name))
        fields: list[Any] = []
        for number in range(ROWS):
            one = wanted[number] if number < len(wanted) else None
            fields += [
                gr.update(value=round(100 * one["weight"])) if one else gr.update(),
                False,
                False,
                gr.update(choices=presets, value=one.get("blocks", "") if one else ""),
                one.get("schedule", "") if one else "",
            ]
        return [gr.update(choices=choices, value=[each["ref"] for each in wanted]), *fields]
