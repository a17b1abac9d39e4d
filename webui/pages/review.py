"""Review: what waits for approval, all there is to judge it by, and two buttons. `?ref=` opens one version."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.actions.review import CHECKS
from webui.components import heading
from webui.context import Context
from webui.pages._review_words import labels_of, measured, shown
from webui.users import allows

__all__ = ["NAME", "build"]

NAME = "review"


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("review.title"), t("review.intro"))
    queue, ref = gr.HTML(), gr.State("")
    with gr.Column(visible=False) as opened:
        about = gr.HTML()
        draw = gr.Button(t("review.draw"))
        drawing, figures = gr.HTML(), gr.HTML(elem_id="figures")
        measure = gr.Button(t("review.measure"))
        measuring, clock = gr.HTML(), gr.Timer(2, active=False)
        with gr.Column(visible=False) as deciding:
            gr.HTML(ctx.render("section", title=t("review.checklist"), text=t("review.checklist_info")))
            checks = gr.CheckboxGroup(label=t("review.checks"), choices=[], elem_classes="checks")
            reason = gr.Textbox(label=t("review.reason"), info=t("review.reason_info"), lines=2, max_length=2000)
            with gr.Row(elem_classes="decide"):
                approve = gr.Button(t("review.approve"), variant="primary", interactive=False, elem_id="approve")
                back = gr.Button(t("review.send_back"), elem_id="send-back")
        said = gr.HTML(elem_id="said")
        with gr.Column(visible=False) as talking:
            text = gr.Textbox(label=t("review.comment"), max_length=2000)
            say = gr.Button(t("review.say"))
    outputs = [queue, ref, opened, about, draw, figures, measure, measuring, clock]
    outputs += [deciding, checks, reason, approve, said, talking]

    def show(asked: str, request: gr.Request, *, waiting: Any = None) -> tuple[Any, ...]:
        found = ctx.act(request, "review.show", ref=asked)
        user, version = ctx.user(request), found.version
        decides = allows(user, "approver") and version.stage == "in_review" and not version.blocked
        rows = ctx.act(request, "review.queue") if waiting is None else waiting
        busy = found.measuring is not None and found.measuring.state in ("queued", "running", "pausing", "stopping")
        return (
            ctx.render("review_queue", versions=rows, now=version.ref),
            version.ref,
            gr.update(visible=True),
            shown(ctx, found, decides=decides, approver=allows(user, "approver")),
            gr.update(visible=allows(user, "creator") and not found.samples),
            measured(ctx, found),
            gr.update(
                visible=allows(user, "trainer") and not busy,
                value=t("review.measure_again" if found.figures else "review.measure"),
            ),
            ctx.render("review_measuring", row=found.measuring),
            gr.update(active=busy),
            gr.update(visible=decides),
            gr.update(choices=[(label, each) for each, label in labels_of(ctx, found)], value=[]),
            "",
            gr.update(interactive=False),
            ctx.render("review_said", said=found.said),
            gr.update(visible=allows(user, "creator")),
        )

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        asked = dict(request.query_params).get("ref", "")
        waiting = ctx.act(request, "review.queue")
        if asked:
            return show(asked, request, waiting=waiting)
        return (ctx.render("review_queue", versions=waiting, now=""), *(gr.update() for _ in outputs[1:]))

    def ticked(values: list[str], asked: str, request: gr.Request) -> Any:
        """Let a style be approved once everything is ticked that is really there."""
        found = ctx.act(request, "review.show", ref=asked) if asked and set(values) == set(CHECKS) else None
        return gr.update(interactive=bool(found and found.samples and found.version.details.licence))

    def decide(asked: str, values: list[str], why: str, request: gr.Request) -> tuple[Any, ...]:
        version = ctx.act(request, "review.approve", ref=asked, checks=values, comment=why or "")
        gr.Info(t("review.is_approved", ref=version.ref))
        return show(asked, request)

    def refuse(asked: str, why: str, request: gr.Request) -> tuple[Any, ...]:
        version = ctx.act(request, "review.send_back", ref=asked, comment=why or "")
        gr.Info(t("review.went_back", ref=version.ref))
        return show(asked, request)

    def comment(asked: str, words: str, request: gr.Request) -> tuple[str, str]:
        ctx.act(request, "library.comment", ref=asked, text=words or "")
        return ctx.render("review_said", said=ctx.act(request, "review.log", ref=asked)), ""

    def sample(asked: str, request: gr.Request) -> Iterator[str]:
        yield ctx.render("create_status", text=t("create.begins"), part=0)
        for event in ctx.act(request, "library.draw_samples", ref=asked):
            if event["event"] in ("failed", "stopped"):
                yield ctx.render("problem", text=event["reason"] or t("review.stopped"), hint=event["hint"])
                return
            yield ctx.render("create_status", text=t("create.drawing"), part=event.get("part", 0))
        yield ""

    def pictured(asked: str, request: gr.Request) -> tuple[Any, ...]:
        """Keep ticks and reason: only what the drawing changed is shown anew."""
        found = show(asked, request)
        labels = labels_of(ctx, ctx.act(request, "review.show", ref=asked))
        return found[3], found[4], gr.update(choices=[(label, each) for each, label in labels])

    def begin(asked: str, request: gr.Request) -> tuple[Any, ...]:
        row = ctx.act(request, "review.measure", ref=asked)
        return gr.update(visible=False), ctx.render("review_measuring", row=row), gr.update(active=True)

    def look(asked: str, request: gr.Request) -> tuple[Any, ...]:
        return show(asked, request)[5:9] if asked else (gr.update(), gr.update(), gr.update(), gr.update(active=False))

    quiet = {"show_progress": "hidden"}
    ctx.on(page.load, arrive, None, outputs, **quiet)
    ctx.on(checks.change, ticked, [checks, ref], approve, **quiet)
    ctx.on(approve.click, decide, [ref, checks, reason], outputs, **quiet)
    ctx.on(back.click, refuse, [ref, reason], outputs, **quiet)
    ctx.on(say.click, comment, [ref, text], [said, text], **quiet)
    ctx.on(measure.click, begin, ref, [measure, measuring, clock], **quiet)
    ctx.on(clock.tick, look, ref, [figures, measure, measuring, clock], **quiet)
    ctx.on(ctx.on(draw.click, sample, ref, drawing, **quiet).then, pictured, ref, [about, draw, checks], **quiet)
