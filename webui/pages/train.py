"""Train: teach a style in five steps, then watch it learn (`?job=`); `?dataset=` begins with a set of pictures."""

from typing import Any

import gradio as gr

from webui.components import banner, heading, may_look
from webui.context import Context
from webui.errors import StudioError
from webui.pages._train_live import Live
from webui.pages._train_steps import choose_step
from webui.pages._train_wizard import Wizard

__all__ = ["NAME", "build"]

NAME = "train"


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("train.title"), t("train.intro"))
    banner(ctx, page)
    may_look(ctx, "train.start", t("train.look"))
    with gr.Column(visible=False, elem_classes=ctx.needs("train.start")) as training:
        wizard = Wizard.build(ctx)
    with gr.Column(visible=False) as watching:
        live = Live.build(ctx)
        choose_step(ctx, live.id)
    mine = gr.HTML()

    def load(request: gr.Request) -> list[Any]:
        asked = request.query_params.get("job", "")
        chosen = "" if asked else _set(ctx, request)
        return [
            gr.update(visible=not asked),
            gr.update(visible=bool(asked)),
            asked,
            chosen,
            "" if asked else wizard.shelf(ctx, request, chosen),
            "" if asked else _list(ctx, request),
        ]

    outputs = [training, watching, live.id, wizard.chosen, wizard.sets, mine]
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
