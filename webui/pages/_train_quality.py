"""Quick, balanced or best: what each takes on this machine, measured by training for a moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.errors import StudioError
from webui.pages._train_work import asking

__all__ = ["QUALITIES", "Quality"]

QUALITIES = ("quick", "balanced", "best")


@dataclass(frozen=True, kw_only=True)
class Quality:
    choice: gr.Radio
    needs: gr.HTML

    @classmethod
    def build(cls, ctx: Context) -> "Quality":
        choices = [(ctx.t(f"train.{each}"), each) for each in QUALITIES]
        choice = gr.Radio(choices, value="balanced", label=ctx.t("train.quality"), elem_id="quality")
        return cls(choice=choice, needs=gr.HTML())

    def measure(self, ctx: Context, event: Any, asked: list[Any]) -> None:
        """Let an event tell what each quality takes for a set: first what is known, then what was measured."""

        def measure(set: str, quality: str, trigger: str, request: gr.Request) -> Iterator[str]:
            made = {each: ctx.act(request, "train.suggest", set=set, quality=each) for each in QUALITIES}
            rows = {each: {"plan": made[each], "needs": None} for each in QUALITIES}
            yield ctx.render("train_needs", rows=rows, seconds=0, fault=None)
            try:
                for each in QUALITIES:
                    for seconds, found in asking(ctx, request, "train.estimate", plan=made[each].plan):
                        rows[each]["needs"] = found
                        yield ctx.render("train_needs", rows=rows, seconds=seconds, fault=None)
            except StudioError as error:
                yield ctx.render("train_needs", rows=rows, seconds=None, fault=error)

        ctx.on(event, measure, asked, self.needs, show_progress="hidden", concurrency_limit=None)
