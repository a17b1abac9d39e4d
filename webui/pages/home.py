"""Home: three doors, what runs, what waits for me, and a tour that is there until it is closed."""

from typing import Any

import gradio as gr

from webui.components import banner, heading, may_look, shots
from webui.context import Context

__all__ = ["NAME", "build"]

NAME = "home"


def build(ctx: Context, page: gr.Blocks) -> None:
    heading(ctx, ctx.t("home.what_next"))
    may_look(ctx, "pictures.draw", ctx.t("home.look"))
    _tour(ctx, page)
    gr.HTML(ctx.render("doors"))
    banner(ctx, page)
    waiting, running, recent = gr.HTML(), gr.HTML(), gr.HTML()

    def refresh(request: gr.Request) -> tuple[str, str, str]:
        review = ctx.act(request, "review.queue")
        jobs = ctx.act(request, "jobs.list", active=True)
        pictures = ctx.act(request, "pictures.list", limit=8)
        return (
            ctx.render("home_review", versions=review),
            ctx.render("home_jobs", jobs=jobs),
            shots(ctx, [ctx.shot(each) for each in pictures], title=ctx.t("home.recent")),
        )

    for event in (page.load, gr.Timer(5).tick):
        ctx.on(event, refresh, None, [waiting, running, recent], show_progress="hidden")


def _tour(ctx: Context, page: gr.Blocks) -> None:
    """Put the first steps on the page, and the buttons that close them and bring them back."""
    tour = gr.HTML(visible=False)
    with gr.Row(elem_classes=ctx.needs("pictures.draw")):
        close = gr.Button(ctx.t("home.tour_close"), size="sm", visible=False)
        again = gr.Button(ctx.t("home.tour_again"), size="sm", visible=False)

    def show(on: bool) -> list[Any]:
        return [gr.update(visible=on, value=ctx.render("tour")), gr.update(visible=on), gr.update(visible=not on)]

    def load(request: gr.Request) -> list[Any]:
        return show(ctx.act(request, "users.preferences")["tour"])

    def turn(on: bool) -> Any:
        def keep(request: gr.Request) -> list[Any]:
            ctx.act(request, "users.prefer", tour=on)
            return show(on)

        return keep

    parts = [tour, close, again]
    ctx.on(page.load, load, None, parts, show_progress="hidden")
    ctx.on(close.click, turn(False), None, parts, show_progress="hidden")
    ctx.on(again.click, turn(True), None, parts, show_progress="hidden")
