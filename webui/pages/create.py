"""Create: describe a picture, drag styles, see it come, keep what is good."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.components import banner, heading, may_look
from webui.context import Context
from webui.pages import _create_compare, _create_history
from webui.pages._create_form import Form
from webui.pages._create_more import RANDOM
from webui.pages._create_results import Results
from webui.pages._losses import reused
from webui.pages._styles import offered
from webui.users import allows

__all__ = ["NAME", "build"]

NAME = "create"


def build(ctx: Context, page: gr.Blocks) -> None:
    t, draws = ctx.t, ctx.needs("pictures.draw")
    heading(ctx, t("create.title"), t("create.intro"))
    may_look(ctx, "pictures.draw", t("create.look"))
    banner(ctx, page)
    with gr.Row():
        with gr.Column(scale=5, min_width=300, elem_classes=draws):
            form = Form.build(ctx)
        with gr.Column(scale=7, min_width=300, elem_classes="follows"), gr.Tabs() as tabs:
            with gr.Tab(t("create.results"), elem_id=f"results-{draws}"):
                results = Results.build(ctx)
                with gr.Row(visible=False) as deeds:
                    star = gr.Button(t("create.star"), size="sm")
                    vary = gr.Button(t("create.vary"), size="sm")
            with gr.Tab(t("create.compare"), elem_id=f"compare-{draws}"):
                _create_compare.build(ctx, form)
            with gr.Tab(t("create.history"), id="history") as history:
                _create_history.build(ctx, page, history)
    form.bind(ctx, page)
    _arrive(ctx, page, form, tabs)
    _draw(ctx, form, results, vary)

    def keep(id: str, request: gr.Request) -> None:
        if id:
            ctx.act(request, "pictures.star", id=id)
            gr.Info(t("create.starred"))

    quiet = {"show_progress": "hidden"}
    ctx.on(results.chosen.change, lambda id: gr.update(visible=bool(id)), results.chosen, deeds, **quiet)
    ctx.on(star.click, keep, results.chosen, None, **quiet)


def _arrive(ctx: Context, page: gr.Blocks, form: Form, tabs: gr.Tabs) -> None:
    """Fill the page for whoever comes, with what the address asks for; who may only look gets the history."""

    def arrive(request: gr.Request) -> list[Any]:
        if not allows(ctx.user(request), "creator"):
            return [gr.update(selected="history"), *[gr.skip()] * len(form.filled)]
        ctx.act(request, "pictures.warm")
        asked, said = dict(request.query_params), {}
        if id := asked.get("from"):
            said = reused(ctx, request, id)
        elif ref := asked.get("style"):
            styles = [{"ref": ref}]
            there = [each.ref for each in offered(ctx, request, styles) if each.ref == ref]  # a retired one is not
            said = {"prompt": form.words.added(ctx, request, "", [], there), "styles": styles}
        return [gr.skip(), *form.shown(ctx, request, said)]

    ctx.on(page.load, arrive, None, [tabs, *form.filled], show_progress="hidden")


def _draw(ctx: Context, form: Form, results: Results, vary: gr.Button) -> None:
    """Let the buttons begin and end a drawing, and one draw four like the chosen picture, with other start numbers."""

    def draw(request: gr.Request, ids: list[str], *values: Any) -> Iterator[tuple[Any, ...]]:
        wanted = form.settings(ctx, request, values)
        events = ctx.act(request, "pictures.draw", settings=wanted, preview_every=2)
        yield from results.follow(ctx, events, ids, request)

    def halt(request: gr.Request) -> None:
        stopped = ctx.act(request, "pictures.stop")  # that it has stopped is told where the drawing is shown
        gr.Info(ctx.t("create.stopping" if stopped else "create.nothing_to_stop"), duration=3)

    def loosen(id: str, start: str | None, request: gr.Request) -> list[Any]:
        said = ctx.act(request, "pictures.reuse", id=id)
        said = {**said, "seed": RANDOM, "began": said["began"] and not start}
        return [*form.shown(ctx, request, said), 4]

    free = {"show_progress": "hidden", "concurrency_limit": None}
    chosen = [results.chosen, form.more.start]
    varied = ctx.on(vary.click, loosen, chosen, [*form.filled, form.count], show_progress="hidden")
    for event in (form.go.click, varied.success):
        ctx.on(event, draw, [results.ids, *form.shape], results.outputs, **free)
    ctx.on(form.stop.click, halt, None, None, **free)
