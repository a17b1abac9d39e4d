"""Blend: mix up to eight styles with sliders, see it at once, and freeze what is good."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.components import banner, heading, may_look
from webui.context import Context
from webui.pages import _blend_freeze
from webui.pages._blend_picture import Picture
from webui.pages._blend_rows import BlendRows
from webui.pages._blend_slots import Slots

__all__ = ["NAME", "build"]

NAME = "blend"


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("blend.title"), t("blend.intro"))
    may_look(ctx, "pictures.draw", t("blend.look"))
    banner(ctx, page)
    with gr.Column(elem_classes=ctx.needs("pictures.draw")):
        with gr.Row():
            with gr.Column(scale=6, min_width=300):
                rows = BlendRows.build(ctx)
                slots = Slots.build(ctx)
            with gr.Column(scale=5, min_width=300, elem_classes="follows"):
                picture = Picture.build(ctx)
        with gr.Row():
            with gr.Column(min_width=300):
                _meet(ctx, rows)
            with gr.Column(min_width=300):
                gr.HTML(ctx.render("section", title=t("blend.freeze_title"), text=t("blend.freeze_info")))
                _blend_freeze.build(ctx, page, rows.inputs, lambda values: rows.mix(values[0], values[1:]))

    rows.bind(ctx)
    refilled = slots.bind(ctx, page, rows, picture.prompt, picture.seed)
    picture.bind(ctx, rows, refilled)


def _meet(ctx: Context, rows: BlendRows) -> None:
    """Put a comparison of the styles in pairs on the page."""
    t = ctx.t
    gr.HTML(ctx.render("section", title=t("blend.conflict"), text=t("blend.conflict_info")))
    compare = gr.Button(t("blend.conflict_go"))
    meter = gr.HTML(elem_id="meter")

    def meet(request: gr.Request, *values: Any) -> Iterator[str]:
        yield ctx.render("create_status", text=t("blend.comparing"), part=0.3)
        meetings = ctx.act(request, "blend.conflict", styles=rows.mix(values[0], values[1:]))
        yield ctx.render("blend_meter", meetings=meetings)

    ctx.on(compare.click, meet, rows.inputs, meter, show_progress="hidden")
