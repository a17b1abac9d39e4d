"""Library: every style as a card; `?ref=` opens one with its versions, origin and talk."""

from typing import Any

import gradio as gr

from webui.components import heading
from webui.context import REFUSALS, Context
from webui.pages._library_detail import Detail

__all__ = ["NAME", "build"]

NAME = "library"
STAGES = ("approved", "in_review", "draft", "retired")


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    with gr.Column() as shelf:
        heading(ctx, t("library.title"), t("library.intro"))
        with gr.Row():
            search = gr.Textbox(label=t("library.search"), max_length=200)
            stages = [(t("library.any"), ""), *((t(f"common.{each}"), each) for each in STAGES)]
            stage = gr.Dropdown(label=t("library.stage"), choices=stages, value="")
        cards = gr.HTML()
        with gr.Accordion(t("library.take_in"), open=False, elem_classes=ctx.needs("library.take_in")):
            upload = gr.File(label=t("library.file"), file_types=[".safetensors", ".zip"], type="filepath")
            name = gr.Textbox(label=t("library.new_name"), max_length=64)
            add = gr.Button(t("library.add"), variant="primary")
    with gr.Column(visible=False) as one:
        detail = Detail.build(ctx)

    def show(text: str, wanted: str, request: gr.Request) -> str:
        return _cards(ctx, request, text, wanted)

    def load(request: gr.Request) -> list[Any]:
        asked = dict(request.query_params).get("ref", "")
        version = _find(ctx, request, asked)
        if version is None:
            shown = _cards(ctx, request, "", "", gone=asked)
            return [gr.update(visible=True), shown, gr.update(visible=False), *[gr.skip()] * len(detail.outputs)]
        return [gr.update(visible=False), "", gr.update(visible=True), *detail.shown(ctx, request, version)]

    def take(path: str | None, called: str, text: str, wanted: str, request: gr.Request) -> tuple[Any, Any, Any]:
        if not path:
            gr.Warning(t("library.no_file"))
            return gr.skip(), gr.skip(), gr.skip()
        version = ctx.act(request, "library.take_in", upload=path, name=called or "")
        gr.Info(t("library.added", ref=version.ref))
        return _cards(ctx, request, text, wanted), None, ""  # the next file is not a version of this one

    ctx.on(page.load, load, None, [shelf, cards, one, *detail.outputs], show_progress="hidden")
    for event in (search.submit, stage.input):
        ctx.on(event, show, [search, stage], cards, show_progress="hidden")
    ctx.on(add.click, take, [upload, name, search, stage], [cards, upload, name])


def _cards(ctx: Context, request: gr.Request, text: str, stage: str, *, gone: str = "") -> str:
    found = ctx.act(request, "library.list", text=text or "", stage=stage or "", every=bool(stage))
    return ctx.render("library_cards", cards=[(each, ctx.thumbnail(each)) for each in found], gone=gone)


def _find(ctx: Context, request: gr.Request, ref: str) -> Any:
    """Return the version that the address names, where there is one."""
    try:
        return ctx.act(request, "library.show", ref=ref) if ref else None
    except REFUSALS:
        return None
