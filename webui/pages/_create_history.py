"""Every picture that was made, with search and stars."""

from typing import Any

import gradio as gr

from webui.components import pickable, picked
from webui.context import Context

__all__ = ["build"]

SHOWN = 24


def build(ctx: Context, page: gr.Blocks, tab: gr.Tab) -> None:
    with gr.Row():
        search = gr.Textbox(label=ctx.t("create.search"), max_length=200)
        starred = gr.Checkbox(label=ctx.t("create.only_starred"))
        mine = gr.Checkbox(label=ctx.t("create.only_mine"))
    grid, about = pickable(), gr.HTML()
    chosen, last = gr.State(""), gr.State("")
    with gr.Row():
        star = gr.Button(ctx.t("create.star_toggle"), size="sm", visible=False, elem_classes=ctx.needs("pictures.star"))
        older = gr.Button(ctx.t("create.older"), size="sm", visible=False)

    def show(text: str, only_starred: bool, only_mine: bool, before: str, request: gr.Request) -> tuple[str, str, Any]:
        wanted = {"starred": True} if only_starred else {}
        found = ctx.act(
            request, "pictures.list", text=text or "", mine=only_mine, before=before, limit=SHOWN + 1, **wanted
        )
        shots = [ctx.shot(each) for each in found[:SHOWN]]
        none = ctx.t("create.none_found" if text or only_starred or only_mine else "create.no_pictures")
        html = ctx.render("pick_pictures", shots=shots) if shots else ctx.render("plain", text=none)
        last = found[SHOWN - 1].id if len(found) > SHOWN else ""
        return html, last, gr.update(visible=bool(last))

    def newest(text: str, only_starred: bool, only_mine: bool, request: gr.Request) -> tuple[str, str, Any]:
        return show(text, only_starred, only_mine, "", request)

    def choose(request: gr.Request, event: gr.EventData) -> tuple[str, str]:
        return picked(event), describe(picked(event), request)

    def describe(id: str, request: gr.Request) -> str:
        picture = ctx.act(request, "pictures.show", id=id)
        return ctx.render("create_chosen", picture=picture, src=ctx.file(picture.path), settings=picture.settings)

    def toggle(id: str, text: str, only_starred: bool, only_mine: bool, request: gr.Request) -> tuple[Any, Any, Any]:
        if id:
            on = not ctx.act(request, "pictures.show", id=id).starred
            ctx.act(request, "pictures.star", id=id, on=on)
            gr.Info(ctx.t("create.starred" if on else "create.unstarred"))
        if only_starred:  # the one that is shown no longer belongs there
            return newest(text, only_starred, only_mine, request)
        return gr.skip(), gr.skip(), gr.skip()

    filters: list[Any] = [search, starred, mine]
    for event in (page.load, tab.select, search.submit, starred.input, mine.input):
        ctx.on(event, newest, filters, [grid, last, older], show_progress="hidden")
    ctx.on(older.click, show, [*filters, last], [grid, last, older])
    ctx.on(grid.select, choose, None, [chosen, about], show_progress="hidden")
    ctx.on(chosen.change, lambda id: gr.update(visible=bool(id)), chosen, star, show_progress="hidden")
    ctx.on(star.click, toggle, [chosen, *filters], [grid, last, older], show_progress="hidden")
