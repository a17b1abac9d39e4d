"""The picture of a mix: drawn when asked for, after every change of a slider, or at nine strengths at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._blend_rows import BlendRows

__all__ = ["Picture"]

QUICK, FULL = 8, 20
"""Steps of the picture that follows the sliders, and of one that is asked for."""

GRID = (("style", "50, 75, 100"), ("second_style", "50, 75, 100"))

Shown = Iterator[tuple[Any, Any]]
"""What status and picture become."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    prompt: gr.Textbox
    seed: gr.Number
    live: gr.Checkbox
    go: gr.Button
    grid: gr.Button
    status: gr.HTML
    picture: gr.HTML

    @classmethod
    def build(cls, ctx: Context) -> "Picture":
        t = ctx.t
        prompt = gr.Textbox(label=t("create.prompt"), value=t("create.prompt_example"), max_length=4000)
        live = gr.Checkbox(label=t("blend.live"), value=True)
        with gr.Row():
            go = gr.Button(t("blend.go"), variant="primary", elem_id="mix")
            grid = gr.Button(t("blend.grid"), elem_id="weight-grid")
        status, picture = gr.HTML(), gr.HTML(ctx.render("plain", text=t("create.here")), elem_id="mixed")
        seed = gr.Number(
            label=t("create.seed"), info=t("create.seed_info"), value=7, precision=0, minimum=0, maximum=2**53
        )
        return cls(prompt=prompt, seed=seed, live=live, go=go, grid=grid, status=status, picture=picture)

    def bind(self, ctx: Context, rows: BlendRows, refilled: Sequence[Any]) -> None:
        """Let buttons, sliders and what fills the rows anew draw the mix of the rows."""

        def settings(said: str, number: float, values: tuple[Any, ...], steps: int) -> dict[str, Any]:
            return {"prompt": said, "seed": int(number or 0), "styles": rows.mix(values[0], values[1:]), "steps": steps}

        def mixed(request: gr.Request, said: str, number: float, *values: Any) -> Shown:
            wanted = settings(said, number, values, FULL)
            yield from _followed(ctx, ctx.act(request, "pictures.draw", settings=wanted), said)

        def follow(request: gr.Request, on: bool, said: str, number: float, *values: Any) -> Shown:
            if on and values[0]:
                wanted = settings(said, number, values, QUICK)
                yield from _followed(ctx, ctx.act(request, "pictures.sketch", settings=wanted), said)

        def weights(request: gr.Request, said: str, number: float, *values: Any) -> Shown:
            styles = rows.heard(values[0], values[1:])  # a strength for a muted one would unmute it
            axes = [{"by": by, "values": text.split(", ")} for by, text in GRID[: min(2, len(styles)) or 1]]
            wanted = settings(said, number, values, FULL) | {"styles": styles}
            yield from _sheet(ctx, ctx.act(request, "series.grid", settings=wanted, axes=axes), axes)

        free = {"show_progress": "hidden", "concurrency_limit": None}
        given, outputs = [self.prompt, self.seed, *rows.inputs], [self.status, self.picture]
        ctx.on(self.go.click, mixed, given, outputs, **free)
        ctx.on(self.grid.click, weights, given, outputs, **free)
        moved = [each.release if isinstance(each, gr.Slider) else each.input for each in rows.fields]
        for event in (*moved, *refilled):
            ctx.on(event, follow, [self.live, *given], outputs, trigger_mode="always_last", **free)


def _followed(ctx: Context, events: Iterator[Any], said: str) -> Shown:
    yield ctx.render("create_status", text=ctx.t("create.begins"), part=0), gr.update()
    for event in events:
        if event.event == "step":
            text = ctx.t("create.step", done=event.done, total=event.total)
            yield ctx.render("create_status", text=text, part=event.done / event.total), gr.update()
        elif event.event == "picture" and event.picture:
            yield "", ctx.render("blend_picture", src=ctx.file(event.picture.path), prompt=said)
        elif event.event == "picture":
            yield "", ctx.render("create_live", jpeg=event.preview)
        elif event.event == "failed":
            yield ctx.render("problem", text=event.reason, hint=event.hint), gr.update()
        elif event.event == "stopped":
            yield ctx.render("note", text=ctx.t("create.stopped")), gr.update()


def _sheet(ctx: Context, events: Iterator[Any], axes: list[dict[str, Any]]) -> Shown:
    yield ctx.render("create_status", text=ctx.t("create.begins"), part=0), gr.update()
    for event in events:
        if event.event == "sheet":
            yield "", ctx.render("create_sheet", src=ctx.file(event.sheet), axes=axes)
        elif event.event == "failed":
            yield ctx.render("problem", text=event.reason, hint=event.hint), gr.update()
        elif event.event == "stopped":
            yield ctx.render("note", text=ctx.t("create.stopped")), gr.update()
        else:
            yield ctx.render("create_status", text=ctx.t("create.drawing"), part=event.part), gr.update()
