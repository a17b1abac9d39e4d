"""Train: teach a style in five steps, then watch it learn (`?job=`); `?dataset=` begins with a set of pictures."""

from typing import Any

import gradio as gr

from webui.components import banner, heading
from webui.context import Context
from webui.errors import StudioError
from webui.pages._train_live import Live
from webui.pages._train_wizard import Wizard
from webui.users import allows

__all__ = ["NAME", "build"]

NAME = "train"


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("train.title"), t("train.intro"))
    banner(ctx, page)
    note = gr.HTML()
    with gr.Column(visible=False) as teaching:
        wizard = Wizard.build(ctx)
    with gr.Column(visible=False) as watching:
        live = Live.build(ctx)
    mine = gr.HTML()

    def load(request: gr.Request) -> list[Any]:
        asked = request.query_params.get("job", "")
        may = allows(ctx.user(request), "trainer")
        chosen = "" if asked or not may else _set(ctx, request)
        said = "" if asked or may else ctx.render("banner", text=t("train.not_trainer"))
        return [
            said,
            gr.update(visible=may and not asked),
            gr.update(visible=bool(asked)),
            asked,
            chosen,
            wizard.shelf(ctx, request, chosen) if may and not asked else "",
            "" if asked else _list(ctx, request),
        ]

    outputs = [note, teaching, watching, live.id, wizard.chosen, wizard.sets, mine]
    ctx.on(page.load, load, None, outputs, show_progress="hidden")


def _set(ctx: Context, request: gr.Request) -> str:
    """Return the set that the address names, where there is one."""
    asked = request.query_params.get("dataset", "")
    try:
        return str(ctx.act(request, "datasets.show", id=asked, wait=False).row.id) if asked else ""
    except StudioError:
        return ""


def _list(ctx: Context, request: gr.Request) -> str:
    return ctx.render("train_list", rows=ctx.act(request, "train.list", limit=20))
