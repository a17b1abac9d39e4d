"""The same seed without and with styles under one slider, and grids that vary two settings."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["build"]

SLIDE = """
const slide = () => element.style.setProperty("--at", (element.querySelector("input[type=range]")?.value ?? 50) + "%");
element.addEventListener("input", slide);
"""
AXES = ("none", "style", "second_style", "all_styles", "seed", "steps", "guidance", "sampler", "prompt")


def build(ctx: Context, shape: list[Any], settings: Callable[[tuple[Any, ...], gr.Request], dict[str, Any]]) -> None:
    t = ctx.t
    gr.HTML(ctx.render("plain", text=t("create.compare_info")))
    go = gr.Button(t("create.compare_go"), variant="primary", elem_id="compare")
    status, both = gr.HTML(), gr.HTML(js_on_load=SLIDE, elem_id="versus")
    with gr.Accordion(t("create.grid"), open=False):
        gr.HTML(ctx.render("plain", text=t("create.grid_info")))
        axes, values = [], []
        for number, name in enumerate(("x", "y", "z")):
            with gr.Row():
                choices = [(t(f"create.axis_{each}"), each) for each in AXES]
                axes.append(
                    gr.Dropdown(
                        label=t(f"create.grid_{name}"), choices=choices, value="none" if number else "all_styles"
                    )
                )
                values.append(
                    gr.Textbox(label=t("create.grid_values"), value="" if number else "0, 50, 100", max_length=1000)
                )
        grid = gr.Button(t("create.grid_go"), elem_id="grid")
    grid_status, sheet = gr.HTML(), gr.HTML()

    def compare(request: gr.Request, *fields: Any) -> Iterator[tuple[str, str]]:
        wanted = settings(fields, request)
        yield ctx.render("create_status", text=t("create.begins"), part=0), ""
        for event in ctx.act(request, "series.compare", settings=wanted):
            if event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), ""
            elif event.event == "pair":
                plain, styled = (ctx.file(each.path) for each in event.pictures)
                yield (
                    "",
                    ctx.render(
                        "create_versus", plain=plain, styled=styled, prompt=event.pictures[0].settings["prompt"]
                    ),
                )
            else:
                yield ctx.render("create_status", text=t("create.drawing"), part=event.part), ""

    def draw_grid(request: gr.Request, *fields: Any) -> Iterator[tuple[str, str]]:
        wanted = [
            {
                "by": axis,
                "values": [each.strip() for each in text.split("|" if axis == "prompt" else ",") if each.strip()],
            }
            for axis, text in zip(fields[:3], fields[3:6], strict=True)
            if axis != "none"
        ]
        prompts: list[str] = next((each["values"] for each in wanted if each["by"] == "prompt"), [])
        shared = settings((fields[6] or "".join(prompts[:1]), *fields[7:]), request)
        yield ctx.render("create_status", text=t("create.begins"), part=0), ""
        for event in ctx.act(request, "series.grid", settings=shared, axes=wanted):
            if event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), ""
            elif event.event == "sheet":
                yield "", ctx.render("create_sheet", src=ctx.file(event.sheet), axes=wanted)
            else:
                yield ctx.render("create_status", text=t("create.drawing"), part=event.part), ""

    ctx.on(go.click, compare, shape, [status, both], show_progress="hidden", concurrency_limit=None)
    ctx.on(
        grid.click,
        draw_grid,
        [*axes, *values, *shape],
        [grid_status, sheet],
        show_progress="hidden",
        concurrency_limit=None,
    )
