"""The way to a training in five steps: pictures, rights, look and name, quality, review."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.components import pickable, picked
from webui.context import Context
from webui.errors import StudioError
from webui.pages._train_expert import Expert
from webui.pages._train_quality import Quality
from webui.pages._train_review import Review
from webui.pages._train_rights import Rights

__all__ = ["Wizard"]

STEPS = ("pictures", "rights", "looks", "quality", "review")


@dataclass(frozen=True, kw_only=True)
class Wizard:
    chosen: gr.State
    sets: gr.HTML
    rights: Rights
    name: gr.Textbox
    trigger: gr.Textbox
    notes: gr.Textbox
    quality: Quality
    expert: Expert
    review: Review

    @classmethod
    def build(cls, ctx: Context) -> "Wizard":
        t = ctx.t
        chosen = gr.State("")
        with gr.Walkthrough(selected=0) as steps:
            with _step(ctx, 0):
                sets = pickable()
                first = _moves(ctx, 0)
            with _step(ctx, 1) as knowing:
                rights = Rights.build(ctx)
                second = _moves(ctx, 1)
            with _step(ctx, 2):
                name = gr.Textbox(
                    label=t("train.style_name"),
                    info=t("train.style_name_info"),
                    value="",
                    max_length=64,
                    elem_id="style-name",
                )
                trigger = gr.Textbox(
                    label=t("train.trigger"), info=t("train.trigger_info"), value="", max_length=100, elem_id="trigger"
                )
                notes = gr.Textbox(
                    label=t("train.notes"), info=t("train.notes_info"), value="", lines=2, max_length=2000
                )
                third = _moves(ctx, 2)
            with _step(ctx, 3) as measuring:
                quality = Quality.build(ctx)
                fourth = _moves(ctx, 3)
            with _step(ctx, 4) as looking:
                review = Review.build(ctx)
        expert = Expert.build(ctx)
        made = cls(
            chosen=chosen, sets=sets, rights=rights, name=name, trigger=trigger, notes=notes,
            quality=quality, expert=expert, review=review,
        )  # fmt: skip
        made._bind(ctx, steps, [first, second, third, fourth, (review.back, None)], (knowing, measuring, looking))
        return made

    def shelf(self, ctx: Context, request: gr.Request, chosen: str) -> str:
        """Return the sets of pictures as HTML, the chosen one marked."""
        rows = [each for each in ctx.act(request, "datasets.list") if each.pictures]
        cards = [{"row": row, "covers": [ctx.file(path) for path in row.covers]} for row in rows]
        return ctx.render("train_sets", cards=cards, chosen=chosen)

    def _bind(self, ctx: Context, steps: gr.Walkthrough, moves: list[Any], whole: tuple[gr.Step, ...]) -> None:
        quiet = {"show_progress": "hidden"}
        asked = [self.chosen, self.quality.choice, self.trigger]
        plan = self.expert.text

        def pick(request: gr.Request, event: gr.EventData) -> list[Any]:
            id = picked(event)
            return [id, self.shelf(ctx, request, id)]

        def renew(set: str, quality: str, trigger: str | None, request: gr.Request) -> str:
            if not set:
                return ""
            return str(ctx.act(request, "train.suggest", set=set, quality=quality, trigger=trigger or "").plan)

        def to(number: int) -> Any:
            def move(set: str, request: gr.Request) -> Any:
                if number and not set:
                    raise ctx.refusal(StudioError(ctx.t("train.no_set"), hint=ctx.t("train.no_set_hint")))
                return gr.update(selected=number)

            return move

        def on(set: str, name: str, trigger: str, request: gr.Request) -> Any:
            if not (name or "").strip() or not (trigger or "").strip():
                raise ctx.refusal(StudioError(ctx.t("train.name_needed"), hint=ctx.t("train.name_needed_hint")))
            ctx.act(request, "train.suggest", set=set, name=name)  # refuses a name here, not when all is set
            return to(3)(set, request)

        for number, (back, forth) in enumerate(moves):
            ctx.on(back.click, to(number - 1), self.chosen, steps, **quiet) if back else None
            if forth and number == STEPS.index("looks"):
                ctx.on(forth.click, on, [self.chosen, self.name, self.trigger], steps, **quiet)
            elif forth:
                ctx.on(forth.click, to(number + 1), self.chosen, steps, **quiet)
        knowing, measuring, looking = whole
        self.quality.measure(ctx, measuring.select, asked)
        self.review.look(ctx, looking.select, [self.chosen, plan, self.name, self.rights.override], plan)
        ctx.on(self.sets.select, pick, None, [self.chosen, self.sets], **quiet)
        self.rights.bind(ctx, self.chosen, knowing.select)
        for event in (self.chosen.change, self.quality.choice.input, self.trigger.change):
            ctx.on(event, renew, asked, plan, trigger_mode="always_last", **quiet)
        self.review.start(ctx, [plan, self.name, self.notes, self.rights.override])


@contextmanager
def _step(ctx: Context, number: int) -> Iterator[gr.Step]:
    """Open a step; where its name has no room above, as on a phone, it is told inside."""
    name = ctx.t(f"train.{STEPS[number]}")
    with gr.Step(name, id=number) as step:
        gr.HTML(ctx.render("train_step", number=number, of=len(STEPS), name=name))
        yield step


def _moves(ctx: Context, number: int) -> tuple[Any, Any]:
    """Put the buttons back and forth below a step."""
    with gr.Row():
        back = gr.Button(ctx.t("train.back"), elem_id=f"back-{number}") if number else None
        forth = (
            gr.Button(ctx.t("train.next"), variant="primary", elem_id=f"next-{number}")
            if number < len(STEPS) - 1
            else None
        )
    return back, forth
