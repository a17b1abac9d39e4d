"""Review: what waits for approval, all there is to judge it by, and two buttons. `?ref=` opens one version."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from webui.actions.review import CHECKS
from webui.components import heading
from webui.context import REFUSALS, Context
from webui.pages._review_desk import Desk, figures_of, pictures_of

__all__ = ["NAME", "build"]

NAME = "review"


def build(ctx: Context, page: gr.Blocks) -> None:
    heading(ctx, ctx.t("review.title"), ctx.t("review.intro"))
    queue, desk = gr.HTML(), Desk.build(ctx)

    def arrive(request: gr.Request) -> list[Any]:
        asked = dict(request.query_params).get("ref", "")
        if not asked:
            return [_queue(ctx, request, ""), *[gr.skip()] * len(desk.outputs)]
        try:
            return _all(ctx, request, desk, asked)
        except REFUSALS:
            return [_queue(ctx, request, "", gone=asked), *[gr.skip()] * len(desk.outputs)]

    ctx.on(page.load, arrive, None, [queue, *desk.outputs], show_progress="hidden")
    _judge(ctx, desk, _decide(ctx, queue, desk))


def _all(ctx: Context, request: gr.Request, desk: Desk, ref: str) -> list[Any]:
    shown = desk.shown(ctx, request, ref)
    return [_queue(ctx, request, shown[0]), *shown]


def _queue(ctx: Context, request: gr.Request, ref: str, *, gone: str = "") -> str:
    return ctx.render("review_queue", versions=ctx.act(request, "review.queue"), now=ref, gone=gone)


def _decide(ctx: Context, queue: gr.HTML, desk: Desk) -> Callable[..., Any]:
    """Let a version be approved once all is ticked, or sent back; return what says whether it can be approved."""

    def ticked(values: list[str], ref: str, request: gr.Request) -> Any:
        """Let a style be approved once everything is ticked that is really there."""
        found = ctx.act(request, "review.show", ref=ref) if ref and set(values) == set(CHECKS) else None
        return gr.update(interactive=bool(found and found.samples and found.version.details.licence))

    def approve(ref: str, values: list[str], why: str, request: gr.Request) -> list[Any]:
        version = ctx.act(request, "review.approve", ref=ref, checks=values, comment=why or "")
        gr.Info(ctx.t("review.is_approved", ref=version.ref))
        return _all(ctx, request, desk, ref)

    def refuse(ref: str, why: str, request: gr.Request) -> list[Any]:
        version = ctx.act(request, "review.send_back", ref=ref, comment=why or "")
        gr.Info(ctx.t("review.went_back", ref=version.ref))
        return _all(ctx, request, desk, ref)

    quiet, outputs = {"show_progress": "hidden"}, [queue, *desk.outputs]
    ctx.on(desk.checks.change, ticked, [desk.checks, desk.ref], desk.approve, **quiet)
    ctx.on(desk.approve.click, approve, [desk.ref, desk.checks, desk.reason], outputs, **quiet)
    ctx.on(desk.back.click, refuse, [desk.ref, desk.reason], outputs, **quiet)
    return ticked


def _judge(ctx: Context, desk: Desk, ticked: Callable[..., Any]) -> None:
    """Let samples be drawn, the style be measured, and a comment be made."""

    def sample(ref: str, request: gr.Request) -> Iterator[str]:
        yield ctx.render("create_status", text=ctx.t("create.begins"), part=0)
        for event in ctx.act(request, "library.draw_samples", ref=ref):
            if event["event"] in ("failed", "stopped"):
                yield ctx.render("problem", text=event["reason"] or ctx.t("review.stopped"), hint=event["hint"])
                return
            yield ctx.render("create_status", text=ctx.t("create.drawing"), part=event.get("part", 0))
        yield ""

    def pictured(ref: str, request: gr.Request) -> tuple[Any, ...]:
        return pictures_of(ctx, request, ctx.act(request, "review.show", ref=ref))

    def begin(ref: str, request: gr.Request) -> tuple[Any, ...]:
        row = ctx.act(request, "review.measure", ref=ref)
        return gr.update(visible=False), ctx.render("review_measuring", row=row), gr.update(active=True)

    def look(ref: str, request: gr.Request) -> tuple[Any, ...]:
        return figures_of(ctx, ctx.act(request, "review.show", ref=ref))

    def comment(ref: str, words: str, request: gr.Request) -> tuple[str, str]:
        ctx.act(request, "library.comment", ref=ref, text=words or "")
        return ctx.render("review_said", said=ctx.act(request, "review.log", ref=ref)), ""

    quiet = {"show_progress": "hidden"}
    drawn = ctx.on(desk.draw.click, sample, desk.ref, desk.drawing, **quiet)
    shown = ctx.on(drawn.then, pictured, desk.ref, desk.pictured, **quiet)
    # The samples may have been all that it lacked.
    ctx.on(shown.then, ticked, [desk.checks, desk.ref], desk.approve, **quiet)
    ctx.on(desk.measure.click, begin, desk.ref, [desk.measure, desk.measuring, desk.clock], **quiet)
    ctx.on(desk.clock.tick, look, desk.ref, desk.measured, **quiet)
    ctx.on(desk.say.click, comment, [desk.ref, desk.text], [desk.said, desk.text], **quiet)
