"""Export: a style as a file for other programs or people. `?ref=` picks the style, `?job=` shows a result."""

from typing import Any

import gradio as gr

from webui.components import heading
from webui.context import REFUSALS, Context
from webui.pages._export_form import Form
from webui.pages._export_words import choices_of, opened_of

__all__ = ["NAME", "build"]

NAME = "export"


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("export.title"), t("export.intro"))
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            form = Form.build(ctx)
        with gr.Column(scale=4, min_width=300):
            done, job, clock = gr.HTML(elem_id="exported"), gr.State(""), gr.Timer(1.5, active=False)
            mine = gr.HTML(elem_id="mine")
            gr.HTML(ctx.render("export_merged"))

    def arrive(target: str, privacy: str, request: gr.Request) -> tuple[Any, ...]:
        number, asked, told = _asked_for(ctx, request)
        choices = choices_of(ctx, request, asked)
        known = {each for _, each in choices}
        first = asked if asked in known else (choices[0][1] if choices else None)
        return (
            gr.update(choices=choices, value=first),
            *form.picked(ctx, request, first, target, privacy),
            number,
            *((told, gr.skip()) if told else _come(ctx, request, number)),
            opened_of(ctx, request),
        )

    def export(request: gr.Request, *values: Any) -> tuple[Any, ...]:
        row = ctx.act(request, "export.write", **form.wanted(values))
        return row.id, ctx.render("create_status", text=t("export.writing"), part=0.1), gr.update(active=True)

    def follow(id: str, request: gr.Request) -> tuple[Any, Any, Any]:
        return *_come(ctx, request, id), opened_of(ctx, request)

    quiet = {"show_progress": "hidden"}
    form.bind(ctx)
    outputs = [form.ref, *form.about, job, done, clock, mine]
    ctx.on(page.load, arrive, [form.target, form.privacy], outputs, **quiet)
    ctx.on(form.go.click, export, form.asked, [job, done, clock], **quiet)
    ctx.on(clock.tick, follow, job, [done, clock, mine], **quiet)


def _asked_for(ctx: Context, request: gr.Request) -> tuple[str, str, str]:
    """Return the export and the version that the address names, empty where they are gone, and what to say then."""
    number, asked = request.query_params.get("job", ""), request.query_params.get("ref", "")
    told = ""
    try:
        asked = asked or (ctx.act(request, "export.result", id=number).job.subject if number else "")
    except REFUSALS as error:
        number, told = "", _refused(ctx, error)
    try:
        asked = ctx.act(request, "library.show", ref=asked).ref if asked else ""
    except REFUSALS as error:
        asked, told = "", "" if number else _refused(ctx, error)  # what was exported is there under any name
    return number, asked, told


def _refused(ctx: Context, error: Exception) -> str:
    return ctx.render("problem", text=str(error), hint=getattr(error, "hint", ""))


def _come(ctx: Context, request: gr.Request, id: str) -> tuple[Any, Any]:
    """Return what came of an export, and whether to look again."""
    still = gr.update(active=False)
    if not id:
        return "", still
    t, found = ctx.t, ctx.act(request, "export.result", id=id)
    if found.job.state in ("failed", "stopped"):
        return ctx.render("problem", text=found.job.error or t("export.stopped"), hint=found.job.hint), still
    if found.job.state != "done":
        waits = found.job.state == "queued"
        text = t("export.waits" if waits else "export.writing")
        return ctx.render("create_status", text=text, part=0.1 if waits else 0.5), gr.update(active=True)
    owner = found.job.owner
    file = ctx.file(found.file, owner=owner)
    card = ctx.file(found.card, owner=owner) if found.card else ""
    return ctx.render("export_done", found=found, file=file, card=card), still
