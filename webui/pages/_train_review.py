"""The last step before a training: what it comes to in words, what stands in the way, and the start."""

from collections.abc import Iterator
from dataclasses import dataclass
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
    go: gr.Button
    target: gr.Textbox

    @classmethod
    def build(cls, ctx: Context) -> "Review":
        shown, target = gr.HTML(), gr.Textbox(visible="hidden", container=False)
        with gr.Row():
            back = gr.Button(ctx.t("train.back"), elem_id="back-4")
            go = gr.Button(ctx.t("train.go"), variant="primary", interactive=False, elem_id="teach")
        return cls(shown=shown, back=back, go=go, target=target)

    def look(self, ctx: Context, event: Any, given: list[Any]) -> None:
        """Let an event show plan, name and override in words; only what nothing blocks can be started."""

        def review(set: str, plan: str, name: str, override: str, request: gr.Request) -> Iterator[list[Any]]:
            yield [ctx.render("train_doing", text=ctx.t("train.checking"), seconds=0), gr.update(interactive=False)]
            facts = ctx.act(request, "train.summary", plan=plan, name=name)
            try:
                for seconds, found in asking(ctx, request, "train.check", plan=plan, override=bool(override.strip())):
                    if found is None:
                        doing = ctx.render("train_doing", text=ctx.t("train.checking"), seconds=seconds)
                        yield [doing, gr.skip()]
                    else:
                        findings = grouped(said(ctx, one) for one in found.findings)
                        said_of = {"facts": facts, "findings": findings, "blocked": found.blocked, "set": set}
                        shown = ctx.render("train_review", **said_of, name=name.strip())
                        yield [shown, gr.update(interactive=not found.blocked and bool(name.strip()))]
            except StudioError as error:
                yield [problem(ctx, str(error), error.hint), gr.update(interactive=False)]

        ctx.on(event, review, given, [self.shown, self.go], show_progress="hidden", concurrency_limit=None)

    def start(self, ctx: Context, given: list[Any]) -> None:
        """Let the button start plan, name, notes and override, and open the training."""

        def start(plan: str, name: str, notes: str, override: str, request: gr.Request) -> str:
            return str(ctx.act(request, "train.start", plan=plan, name=name, notes=notes, override=override).id)

        started = ctx.on(self.go.click, start, given, self.target)
        started.success(None, self.target, None, js=OPEN.replace("ROOT", ctx.root), api_visibility="private")
