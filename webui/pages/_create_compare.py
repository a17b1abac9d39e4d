"""The same seed without and with styles under one slider, and grids that vary two settings."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.context import Context
from webui.errors import BadRequest
from webui.pages._create_form import Form

__all__ = ["build"]

SLIDE = """
const slide = () => element.style.setProperty("--at", (element.querySelector("input[type=range]")?.value ?? 50) + "%");
element.addEventListener("input", slide);
"""
AXES = ("none", "style", "second_style", "all_styles", "seed", "steps", "guidance", "sampler", "prompt")


def build(ctx: Context, form: Form) -> None:
    gr.HTML(ctx.render("plain", text=ctx.t("create.compare_info")))
    _versus(ctx, form)
    with gr.Accordion(ctx.t("create.grid"), open=False):
        gr.HTML(ctx.render("plain", text=ctx.t("create.grid_info")))
        _grid(ctx, form)


def _versus(ctx: Context, form: Form) -> None:
    t = ctx.t
    with gr.Row():
        go = gr.Button(t("create.compare_go"), variant="primary", elem_id="compare")
        status = gr.HTML()
    both = gr.HTML(js_on_load=SLIDE, elem_id="versus")

    def compare(request: gr.Request, *fields: Any) -> Iterator[tuple[str, str]]:
        events = ctx.act(request, "series.compare", settings=form.settings(ctx, request, fields))
        yield ctx.render("create_status", text=t("create.begins"), part=0), ""
        for event in events:
            if event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), ""
            elif event.event == "pair":
                plain, styled = (ctx.file(each.path) for each in event.pictures)
                prompt = event.pictures[0].settings["prompt"]
                yield "", ctx.render("create_versus", plain=plain, styled=styled, prompt=prompt)
            elif event.event == "stopped":
                yield ctx.render("note", text=t("create.stopped")), ""
            else:
                yield ctx.render("create_status", text=t("create.drawing"), part=event.part), ""

    ctx.on(go.click, compare, form.shape, [status, both], show_progress="hidden", concurrency_limit=None)


def _grid(ctx: Context, form: Form) -> None:
    t = ctx.t
    choices = [(t(f"create.axis_{each}"), each) for each in AXES]
    axes, values = [], []
    for number, name in enumerate(("x", "y", "z")):
        with gr.Row():
            axis = "none" if number else "all_styles"
            axes.append(gr.Dropdown(label=t(f"create.grid_{name}"), choices=choices, value=axis))
            first = "" if number else "0, 50, 100"
            values.append(gr.Textbox(label=t("create.grid_values"), value=first, max_length=1000))
    with gr.Row():
        go = gr.Button(t("create.grid_go"), elem_id="grid")
        status = gr.HTML()
    sheet = gr.HTML()

    def draw(request: gr.Request, *fields: Any) -> Iterator[tuple[str, str]]:
        wanted = [_axis(by, text) for by, text in zip(fields[:3], fields[3:6], strict=True) if by != "none"]
        if not wanted or not all(each["values"] for each in wanted):
            raise BadRequest(t("create.grid_empty"), hint=t("create.grid_empty_hint"))
        prompts: list[str] = next((each["values"] for each in wanted if each["by"] == "prompt"), [])
        shared = form.settings(ctx, request, (fields[6] or "".join(prompts[:1]), *fields[7:]))
        events = ctx.act(request, "series.grid", settings=shared, axes=wanted)
        yield ctx.render("create_status", text=t("create.begins"), part=0), ""
        for event in events:
            if event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), ""
            elif event.event == "sheet":
                yield "", ctx.render("create_sheet", src=ctx.file(event.sheet), axes=wanted)
            elif event.event == "stopped":
                yield ctx.render("note", text=t("create.stopped")), ""
            else:
                yield ctx.render("create_status", text=t("create.drawing"), part=event.part), ""

    given, shown = [*axes, *values, *form.shape], [status, sheet]
    ctx.on(go.click, draw, given, shown, show_progress="hidden", concurrency_limit=None)


def _axis(by: str, text: str) -> dict[str, Any]:
    values = [each.strip() for each in text.split("|" if by == "prompt" else ",")]
    return {"by": by, "values": [each for each in values if each]}
