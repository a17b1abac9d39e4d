"""Picture sets: a list of them, and one of them with its pictures, captions, rights and health (`?id=`)."""

from typing import Any

import gradio as gr

from webui.components import heading
from webui.context import Context
from webui.errors import StudioError
from webui.pages._datasets_set import SetDesk
from webui.pages._datasets_view import header
from webui.users import LOCAL, allows

__all__ = ["NAME", "build"]

NAME = "datasets"


def build(ctx: Context, page: gr.Blocks) -> None:
    id, target = gr.State(""), gr.Textbox(visible="hidden", container=False)  # a State is unknown to the browser
    with gr.Column() as shelf:
        heading(ctx, ctx.t("datasets.title"), ctx.t("datasets.intro"))
        with gr.Row(equal_height=True, elem_classes=ctx.needs("datasets.create")):
            name = gr.Textbox(
                label=ctx.t("datasets.new"), placeholder=ctx.t("datasets.new_hint"), max_length=80, scale=3
            )
            create = gr.Button(ctx.t("datasets.create"), variant="primary", scale=1)
        sets = gr.HTML()
    with gr.Column(visible=False) as one:
        head = gr.HTML()
        desk = SetDesk.build(ctx, id)
        with gr.Row(elem_classes=ctx.needs("datasets.remove")):
            copy = gr.Button(ctx.t("datasets.copy"), visible=False)
            remove = gr.Button(ctx.t("datasets.remove"), visible=False)
            sure = gr.Button(ctx.t("datasets.remove_sure"), variant="stop", visible=False)
            keep = gr.Button(ctx.t("datasets.remove_keep"), visible=False)

    def load(request: gr.Request) -> list[Any]:
        return _arrive(ctx, request, len(desk.tools))

    def create_set(name: str, request: gr.Request) -> str:
        return str(ctx.act(request, "datasets.create", name=name).id)

    def copy_set(id: str, request: gr.Request) -> str:
        return str(ctx.act(request, "datasets.copy_demo", style=id.removeprefix("demo:")).id)

    def remove_set(id: str, request: gr.Request) -> str:
        ctx.act(request, "datasets.remove", id=id)
        return ""

    def asking(asked: bool) -> Any:
        return lambda: [gr.update(visible=not asked), gr.update(visible=asked), gr.update(visible=asked)]

    outputs = [id, shelf, sets, one, head, copy, remove, *desk.tools]
    loaded = ctx.on(page.load, load, None, outputs, show_progress="hidden")
    desk.bind(ctx, loaded.then, head)
    ctx.on(remove.click, asking(True), None, [remove, sure, keep], show_progress="hidden")
    ctx.on(keep.click, asking(False), None, [remove, sure, keep], show_progress="hidden")
    for event, function, given in (
        (create.click, create_set, name),
        (name.submit, create_set, name),
        (copy.click, copy_set, id),
        (sure.click, remove_set, id),
    ):
        done = ctx.on(event, function, given, target)
        done.success(None, target, None, js=_GO.replace("ROOT", ctx.root), api_visibility="private")


def _arrive(ctx: Context, request: gr.Request, tools: int) -> list[Any]:
    """Return what shows the set that the address names, or the list."""
    asked = request.query_params.get("id", "")
    row = _find(ctx, request, asked)
    may, user = row is not None and not row.read_only, ctx.user(request)
    return [
        asked if row else "",
        gr.update(visible=row is None),
        "" if row else _list(ctx, request, gone=bool(asked)),
        gr.update(visible=row is not None),
        header(ctx, row) if row else "",
        gr.update(visible=not may),
        gr.update(visible=may and (row.owner == user.name or allows(user, "admin"))),
        *[gr.update(visible=may)] * tools,
    ]


_GO = "(id) => { location.href = 'ROOT/datasets' + (id ? '?id=' + encodeURIComponent(id) : ''); }"
"""Opens a set by its id, or the list for none."""


def _find(ctx: Context, request: gr.Request, id: str) -> Any:
    try:
        return ctx.act(request, "datasets.show", id=id, wait=False).row if id else None
    except StudioError:
        return None


def _list(ctx: Context, request: gr.Request, *, gone: bool) -> str:
    rows = ctx.act(request, "datasets.list")
    cards = [{"row": row, "covers": [ctx.file(path) for path in row.covers]} for row in rows]
    mine = [each for each in cards if not each["row"].read_only]
    demo = [each for each in cards if each["row"].read_only]
    return ctx.render("datasets_list", mine=mine, demo=demo, gone=gone, local=LOCAL.name)
