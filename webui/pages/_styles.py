"""Rows of styles with sliders, which Create and Blend share: eight are built, those in use are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["ROWS", "StyleRows"]

ROWS = 8
EVERYDAY, EXPERT = (0, 150), (-200, 200)
"""Per cent that a slider offers."""


@dataclass(frozen=True)
class StyleRows:
    """A picker of styles and a slider for each that is picked."""

    picker: gr.Dropdown
    sliders: list[gr.Slider]
    expert: gr.Checkbox

    @classmethod
    def build(cls, ctx: Context) -> "StyleRows":
        picker = gr.Dropdown(
            label=ctx.t("styles.pick"), info=ctx.t("styles.pick_info"), multiselect=True, max_choices=ROWS, choices=[]
        )
        sliders = [
            gr.Slider(*EVERYDAY, value=100, step=5, visible=False, interactive=True, label=ctx.t("styles.weight"))
            for _ in range(ROWS)
        ]
        expert = gr.Checkbox(label=ctx.t("styles.expert"), value=False, visible=False)
        rows = cls(picker, sliders, expert)
        inputs, outputs = [picker, expert, *sliders], [expert, *sliders]
        for event in (picker.change, expert.input):
            ctx.on(event, rows._shown(ctx), inputs, outputs, show_progress="hidden")
        return rows

    def choices(self, ctx: Context, request: gr.Request) -> list[tuple[str, str]]:
        """Return the styles that can be picked, retired ones left out, approved ones first."""
        found = [each for each in ctx.act(request, "library.list") if each.stage != "retired"]
        found.sort(key=lambda each: (each.stage != "approved", each.name.casefold()))
        return [(f"{each.name} · {ctx.t(f'common.{each.stage}')}", each.ref) for each in found]

    def used(self, refs: Sequence[str] | None, weights: Sequence[float]) -> list[dict[str, Any]]:
        """Return the styles as actions take them; 100 % is a weight of 1."""
        return [{"ref": ref, "weight": weight / 100} for ref, weight in zip(refs or [], weights, strict=False)]

    def filled(self, ctx: Context, request: gr.Request, styles: Sequence[dict[str, Any]]) -> list[Any]:
        """Return updates of picker and sliders that show these styles."""
        choices = self.choices(ctx, request)
        known = {ref for _, ref in choices}
        wanted = [each for each in styles if each["ref"] in known][:ROWS]
        values = [round(100 * each["weight"]) for each in wanted]
        sliders = [gr.update(value=value) for value in values] + [gr.update()] * (ROWS - len(values))
        return [gr.update(choices=choices, value=[each["ref"] for each in wanted]), *sliders]

    def _shown(self, ctx: Context) -> Any:
        def show(request: gr.Request, refs: list[str], expert: bool, *weights: float) -> list[Any]:
            versions = {each.ref: each for each in ctx.act(request, "library.list", every=True)}
            low, high = EXPERT if expert else EVERYDAY
            updates: list[Any] = [gr.update(visible=bool(refs))]
            for number, weight in enumerate(weights):
                version = versions.get(refs[number]) if number < len(refs or []) else None
                updates.append(
                    gr.update(
                        visible=version is not None,
                        label=ctx.t("styles.weight_of", style=version.name) if version else ctx.t("styles.weight"),
                        minimum=low,
                        maximum=high,
                        value=min(high, max(low, weight)),
                    )
                )
            return updates

        return show
