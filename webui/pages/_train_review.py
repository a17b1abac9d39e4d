"""The last step before a training: what it comes to in words, what stands in the way, and the start."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from webui.components import problem
from webui.context import Context
from webui.errors import StudioError
from webui.pages._datasets_words import grouped
from webui.pages._train_words import said
from webui.pages._train_work import asking

__all__ = ["OPEN", "Review"]

OPEN = "(id) => { if (id) location.href = 'ROOT/train?job=' + encodeURIComponent(id); }"
"""Opens the page of a training."""


@dataclass(frozen=True, kw_only=True)
class Review:
    shown: gr.HTML
    back: gr.Button
    again: gr.Button
    go: gr.Button
    target: gr.Textbox

    @classmethod
    def build(cls, ctx: Context) -> "Review":
        shown, target = gr.HTML(), gr.Textbox(visible="hidden", container=False)
        with gr.Row():
            back = gr.Button(ctx.t("train.back"), elem_id="back-4")
            again = gr.Button(ctx.t("train.look_again"), visible=False, elem_id="look-again")
            go = gr.Button(ctx.t("train.go"), variant="primary", interactive=False, elem_id="teach")
        return cls(shown=shown, back=back, again=again, go=go, target=target)

    def look(self, ctx: Context, event: Any, given: list[Any], plan: gr.Textbox) -> None:
        """Let an event show plan, name and override in words; only what nothing blocks can be started.

        A plan that is changed after that has to be looked at again.
        """

        def review(set: str, plan: str, name: str, override: str, request: gr.Request) -> Iterator[list[Any]]:
            doing = ctx.render("train_doing", text=ctx.t("train.checking"), seconds=0)
            yield [plan, doing, gr.update(interactive=False), gr.update(visible=False)]
            try:
                facts = ctx.act(request, "train.summary", plan=plan, name=name)
                for seconds, found in asking(ctx, request, "train.check", plan=plan, override=bool(override.strip())):
                    if found is None:
                        doing = ctx.render("train_doing", text=ctx.t("train.checking"), seconds=seconds)
                        yield [plan, doing, gr.skip(), gr.skip()]
                    else:
                        findings = grouped(said(ctx, one) for one in found.findings)
                        said_of = {"facts": facts, "findings": findings, "blocked": found.blocked, "set": set}
                        shown = ctx.render("train_review", **said_of, name=name.strip())
                        able = not found.blocked and bool(name.strip())
                        yield [plan, shown, gr.update(interactive=able), gr.skip()]
            except StudioError as error:
                yield [plan, problem(ctx, str(error), error.hint), gr.update(interactive=False), gr.skip()]

        def stale(plan: str, looked: str) -> list[Any]:
            if plan == looked:
                return [gr.skip()] * 3
            changed = ctx.render("plain", text=ctx.t("train.changed"))
            return [changed, gr.update(interactive=False), gr.update(visible=True)]

        looked, outputs, quiet = gr.State(""), [self.shown, self.go, self.again], {"show_progress": "hidden"}
        looks = partial(gr.on, [event, self.again.click])
        shown = ctx.on(looks, review, given, [looked, *outputs], concurrency_limit=None, **quiet)
        for each in (plan.change, shown.then):  # it may change while it is looked at
            ctx.on(each, stale, [plan, looked], outputs, **quiet)

    def start(self, ctx: Context, given: list[Any]) -> None:
        """Let the button start plan, name, notes and override, and open the training."""

        def start(plan: str, name: str, notes: str, override: str, request: gr.Request) -> str:
            return str(ctx.act(request, "train.start", plan=plan, name=name, notes=notes, override=override).id)

        started = ctx.on(self.go.click, start, given, self.target)
        started.success(None, self.target, None, js=OPEN.replace("ROOT", ctx.root), api_visibility="private")
