"""Export: a style as a file for other programs or people. `?ref=` picks the style, `?job=` shows a result."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.actions.export import TARGETS
from webui.components import heading
from webui.context import Context
from webui.pages._export_words import choices_of, notice_of, opened_of, weights_of
from webui.users import allows

__all__ = ["NAME", "build"]

NAME = "export"
PRECISIONS = ("fp16", "bf16", "fp32")
PRIVACY = ("public", "team", "private")


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("export.title"), t("export.intro"))
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            ref = gr.Dropdown(label=t("export.style"), choices=[], value=None, elem_id="style")
            notice = gr.HTML(elem_id="notice")
            target = gr.Radio(
                label=t("export.target"), value="comfyui", choices=[(t(f"export.to_{each}"), each) for each in TARGETS]
            )
            precision = gr.Radio(
                label=t("export.precision"),
                info=t("export.precision_info"),
                value="fp16",
                choices=[(t(f"export.{each}"), each) for each in PRECISIONS],
            )
            privacy = gr.Radio(
                label=t("export.privacy"), value="team", choices=[(t(f"export.{each}"), each) for each in PRIVACY]
            )
            withheld = gr.HTML(elem_id="withheld")
        with gr.Column(scale=4, min_width=300):
            with gr.Group() as carding:
                card = gr.Checkbox(label=t("export.card"), info=t("export.card_info"), value=True)
                licence = gr.Textbox(label=t("export.licence"), max_length=200)
                with gr.Row():
                    low = gr.Number(label=t("export.weight_low"), minimum=-200, maximum=200)
                    high = gr.Number(label=t("export.weight_high"), minimum=-200, maximum=200)
            go = gr.Button(t("export.go"), variant="primary", elem_id="export", interactive=False)
            done, job, clock = gr.HTML(elem_id="exported"), gr.State(""), gr.Timer(1.5, active=False)
    gr.HTML(ctx.render("export_merged"))
    mine = gr.HTML(elem_id="mine")
    chosen = [licence, low, high]

    def picked(asked: str | None, where: str, who: str, request: gr.Request) -> tuple[Any, ...]:
        if not asked:
            return "", gr.update(interactive=False), "", None, None
        version = ctx.act(request, "library.show", ref=asked)
        may = ctx.act(request, "export.allowed", ref=asked, target=where, privacy=who)
        begin = gr.update(interactive=may)
        return notice_of(ctx, version, may=may), begin, version.details.licence, *weights_of(version)

    def leaves(asked: str | None, who: str, request: gr.Request) -> Iterator[str]:
        """Say what would be left out, before anything is written; reading the file takes a second or two."""
        if not asked or not allows(ctx.user(request), "creator"):
            yield ""
            return
        yield ctx.render("note", text=t("export.looking"))
        rows = ctx.act(request, "export.preview", ref=asked, privacy=who)
        yield ctx.render("export_withheld", rows=rows, privacy=who)

    def aimed(asked: str | None, where: str, who: str, request: gr.Request) -> tuple[Any, ...]:
        shown = gr.update(visible=where != "archive")
        if not asked:  # before the page has loaded its styles; what loads them sees to the button
            return shown, shown, gr.update()
        may = ctx.act(request, "export.allowed", ref=asked, target=where, privacy=who)
        return shown, shown, gr.update(interactive=may)

    def guarded(asked: str | None, where: str, who: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Both at once: a second handler of one event would wait until the first has read the file."""
        buttons = aimed(asked, where, who, request)
        for shown in leaves(asked, who, request):
            yield *buttons, shown

    def arrive(where: str, who: str, request: gr.Request) -> tuple[Any, ...]:
        number, asked = request.query_params.get("job", ""), request.query_params.get("ref", "")
        if number and not asked:
            asked = ctx.act(request, "export.result", id=number).job.subject
        choices = choices_of(ctx, request, asked)
        known = {each for _, each in choices}
        first = asked if asked in known else (choices[0][1] if choices else None)
        return (
            gr.update(choices=choices, value=first),
            *picked(first, where, who, request),
            number,
            *look(number, request),
            opened_of(ctx, request),
        )

    def export(request: gr.Request, asked: str | None, *values: Any) -> tuple[Any, ...]:
        where, how, who, with_card, said, least, most = values
        weights = {key: each / 100 for key, each in (("weight_low", least), ("weight_high", most)) if each is not None}
        wanted = {"target": where, "precision": how, "privacy": who, "card": with_card, "licence": said or ""}
        row = ctx.act(request, "export.write", ref=asked or "", **wanted, **weights)
        return row.id, ctx.render("create_status", text=t("export.writing"), part=0.1), gr.update(active=True)

    def look(id: str, request: gr.Request) -> tuple[Any, Any]:
        if not id:
            return "", gr.update(active=False)
        found = ctx.act(request, "export.result", id=id)
        if found.job.state in ("failed", "stopped"):
            text = found.job.error or t("export.stopped")
            return ctx.render("problem", text=text, hint=found.job.hint), gr.update(active=False)
        if found.job.state != "done":
            waits = found.job.state == "queued"
            text = t("export.waits" if waits else "export.writing")
            return ctx.render("create_status", text=text, part=0.1 if waits else 0.5), gr.update(active=True)
        owner = found.job.owner
        file = ctx.file(found.file, owner=owner)
        card_src = ctx.file(found.card, owner=owner) if found.card else ""
        return ctx.render("export_done", found=found, file=file, card=card_src), gr.update(active=False)

    def follow(id: str, request: gr.Request) -> tuple[Any, Any, Any]:
        return *look(id, request), opened_of(ctx, request)

    quiet = {"show_progress": "hidden"}
    where_and_who = [ref, target, privacy]
    about = [notice, go, *chosen]
    looking = {"concurrency_limit": 2, "trigger_mode": "always_last", **quiet}
    ctx.on(page.load, arrive, [target, privacy], [ref, *about, job, done, clock, mine], **quiet)
    ctx.on(ref.input, picked, where_and_who, about, **quiet)
    for event in (ref.change, privacy.change):
        ctx.on(event, guarded, where_and_who, [precision, carding, go, withheld], **looking)
    ctx.on(target.change, aimed, where_and_who, [precision, carding, go], **quiet)
    ctx.on(go.click, export, [ref, target, precision, privacy, card, *chosen], [job, done, clock], **quiet)
    ctx.on(clock.tick, follow, job, [done, clock, mine], **quiet)
