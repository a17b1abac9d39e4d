"""Library: every style as a card, and each with its versions, origin and talk."""

import gradio as gr

from webui.components import heading
from webui.context import Context
from webui.pages import _library_detail

__all__ = ["NAME", "build"]

NAME = "library"
STAGES = ("approved", "in_review", "draft", "retired")


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("library.title"), t("library.intro"))
    _library_detail.build(ctx, page)
    with gr.Row():
        search = gr.Textbox(label=t("library.search"), max_length=200)
        stages = [(t("library.any"), ""), *((t(f"common.{each}"), each) for each in STAGES)]
        stage = gr.Dropdown(label=t("library.stage"), choices=stages, value="")
    cards = gr.HTML()
    with gr.Accordion(t("library.take_in"), open=False):
        upload = gr.File(label=t("library.file"), file_types=[".safetensors", ".zip"], type="filepath")
        name = gr.Textbox(label=t("library.new_name"), max_length=64)
        add = gr.Button(t("library.add"), variant="primary")

    def show(text: str, wanted: str, request: gr.Request) -> str:
        found = ctx.act(request, "library.list", text=text or "", stage=wanted or "")
        return ctx.render("library_cards", cards=[(each, ctx.thumbnail(each)) for each in found])

    def take(path: str | None, called: str, text: str, wanted: str, request: gr.Request) -> str:
        if path:
            version = ctx.act(request, "library.take_in", upload=path, name=called or "")
            gr.Info(t("library.added", ref=version.ref))
        return show(text, wanted, request)

    for event in (page.load, search.submit, stage.input):
        ctx.on(event, show, [search, stage], cards, show_progress="hidden")
    ctx.on(add.click, take, [upload, name, search, stage], cards)
