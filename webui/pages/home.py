"""Home: three doors, what runs, what waits for me, and a tour for the first visit."""

import gradio as gr

from webui.components import banner, heading, shots
from webui.context import Context

__all__ = ["NAME", "build"]

NAME = "home"


def build(ctx: Context, page: gr.Blocks) -> None:
    heading(ctx, ctx.t("home.what_next"))
    tour = gr.HTML(visible=False)
    close = gr.Button(ctx.t("home.tour_close"), size="sm", visible=False)
    gr.HTML(ctx.render("doors"))
    banner(ctx, page)
    waiting, running, recent = gr.HTML(), gr.HTML(), gr.HTML()

    def load(request: gr.Request) -> tuple[object, object]:
        new = ctx.act(request, "users.preferences")["tour"]
        return gr.update(visible=new, value=ctx.render("tour")), gr.update(visible=new)

    def refresh(request: gr.Request) -> tuple[str, str, str]:
        review = ctx.act(request, "review.queue")
        jobs = ctx.act(request, "jobs.list", active=True)
        pictures = ctx.act(request, "pictures.list", limit=8)
        return (
            ctx.render("home_review", versions=review),
            ctx.render("home_jobs", jobs=jobs),
            shots(ctx, [ctx.shot(each) for each in pictures], title=ctx.t("home.recent")),
        )

    def seen(request: gr.Request) -> tuple[object, object]:
        ctx.act(request, "users.prefer", tour=False)
        return gr.update(visible=False), gr.update(visible=False)

    ctx.on(page.load, load, None, [tour, close], show_progress="hidden")
    ctx.on(page.load, refresh, None, [waiting, running, recent], show_progress="hidden")
    ctx.on(close.click, seen, None, [tour, close])
    ctx.on(gr.Timer(5).tick, refresh, None, [waiting, running, recent], show_progress="hidden")
