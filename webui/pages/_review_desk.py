"""One version on the desk of who reviews it: what there is to judge it by, the checklist, what was said."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._review_words import labels_of, measured, shown
from webui.users import allows

__all__ = ["Desk", "figures_of", "pictures_of"]

BUSY = ("queued", "running", "pausing", "stopping")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The parts that show a version; `ref` is which. `deciding` is there where it can be decided on."""

    ref: gr.State
    opened: gr.Column
    about: gr.HTML
    draw: gr.Button
    drawing: gr.HTML
    figures: gr.HTML
    measure: gr.Button
    measuring: gr.HTML
    clock: gr.Timer
    deciding: gr.Column
    checks: gr.CheckboxGroup
    reason: gr.Textbox
    approve: gr.Button
    back: gr.Button
    said: gr.HTML
    text: gr.Textbox
    say: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Desk":
        t = ctx.t
        ref = gr.State("")
        with gr.Column(visible=False) as opened:
            about = gr.HTML()
            with gr.Row():  # progress beside its button moves nothing that somebody is about to press
                draw = gr.Button(t("review.draw"), elem_classes=ctx.needs("library.draw_samples"))
                drawing = gr.HTML()
            figures = gr.HTML(elem_id="figures")
            with gr.Row():
                measure = gr.Button(t("review.measure"), elem_classes=ctx.needs("review.measure"))
                measuring = gr.HTML()
            clock = gr.Timer(2, active=False)
            with gr.Column(visible=False, elem_classes=ctx.needs("review.approve")) as deciding:
                gr.HTML(ctx.render("section", title=t("review.checklist"), text=t("review.checklist_info")))
                checks = gr.CheckboxGroup(label=t("review.checks"), choices=[], elem_classes="checks")
                reason = gr.Textbox(label=t("review.reason"), info=t("review.reason_info"), lines=2, max_length=2000)
                with gr.Row(elem_classes="decide"):
                    approve = gr.Button(t("review.approve"), variant="primary", interactive=False, elem_id="approve")
                    back = gr.Button(t("review.send_back"), elem_id="send-back")
            said = gr.HTML(elem_id="said")
            with gr.Column(elem_classes=ctx.needs("library.comment")):
                text = gr.Textbox(label=t("review.comment"), max_length=2000)
                say = gr.Button(t("review.say"))
        return cls(
            ref=ref, opened=opened, about=about, draw=draw, drawing=drawing, figures=figures, measure=measure,
            measuring=measuring, clock=clock, deciding=deciding, checks=checks, reason=reason, approve=approve,
            back=back, said=said, text=text, say=say,
        )  # fmt: skip

    @property
    def pictured(self) -> list[Any]:
        """What a drawing changes; ticks and reason stay."""
        return [self.about, self.draw, self.checks]

    @property
    def measured(self) -> list[Any]:
        """What a measurement changes."""
        return [self.figures, self.measure, self.measuring, self.clock]

    @property
    def outputs(self) -> list[Any]:
        parts = [self.ref, self.opened, *self.pictured, *self.measured]
        return [*parts, self.deciding, self.reason, self.approve, self.said]

    def shown(self, ctx: Context, request: gr.Request, ref: str) -> list[Any]:
        """Return what `outputs` become for a version."""
        found = ctx.act(request, "review.show", ref=ref)
        about, draw, checks = pictures_of(ctx, request, found)
        decides = found.version.stage == "in_review" and not found.version.blocked
        said = ctx.render("review_said", said=found.said)
        return [
            *(found.version.ref, gr.update(visible=True), about, draw, {**checks, "value": []}),
            *figures_of(ctx, found),
            *(gr.update(visible=decides), "", gr.update(interactive=False), said),
        ]


def pictures_of(ctx: Context, request: gr.Request, found: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return what `pictured` become: the version, whether samples can be drawn, and what is known of each check."""
    labels = [(label, each) for each, label in labels_of(ctx, found)]
    parents = () if found.references else ctx.act(request, "library.origin", ref=found.version.ref).parents
    about = shown(ctx, found, parents, approver=allows(ctx.user(request), "approver"))
    return about, gr.update(visible=not found.samples), gr.update(choices=labels)


def figures_of(ctx: Context, found: Any) -> tuple[Any, ...]:
    """Return what `measured` become: the figures, and how far a measurement is."""
    busy = found.measuring is not None and found.measuring.state in BUSY
    label = ctx.t("review.measure_again" if found.figures else "review.measure")
    doing = ctx.render("review_measuring", row=found.measuring)
    return measured(ctx, found), gr.update(visible=not busy, value=label), doing, gr.update(active=busy)
