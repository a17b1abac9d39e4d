"""Every setting of the plan: as a form and as TOML; a change of either appears in the other."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from webui.components import problem
from webui.context import Context
from webui.errors import StudioError
from webui.forms import PlanForm

__all__ = ["Expert"]


@dataclass(frozen=True, kw_only=True)
class Expert:
    """`text` is the plan that is taught."""

    text: gr.Textbox
    form: PlanForm
    fault: gr.HTML

    @classmethod
    def build(cls, ctx: Context) -> "Expert":
        t = ctx.t
        with gr.Accordion(t("train.expert"), open=False, elem_id="expert"):
            gr.HTML(ctx.render("plain", text=t("train.expert_info")))
            fault = gr.HTML()
            with gr.Tabs():
                with gr.Tab(t("train.as_form")):
                    form = PlanForm.build(t)
                with gr.Tab(t("train.as_text")):
                    text = gr.Textbox(
                        label=t("train.plan"),
                        lines=20,
                        max_lines=40,
                        max_length=40_000,
                        elem_id="plan",
                        autoscroll=False,
                    )
        made = cls(text=text, form=form, fault=fault)
        made._bind(ctx)
        return made

    def shown(self, ctx: Context, text: str) -> list[Any]:
        """Return what form and note show for a plan; of one that is none, why, and the form stays."""
        try:
            return ["", *self.form.values(text)]
        except StudioError as error:
            return [problem(ctx, str(error), error.hint), *[gr.skip()] * len(self.form.fields)]

    def _bind(self, ctx: Context) -> None:
        fields = self.form.components

        def written(request: gr.Request, *values: Any) -> str:
            return self.form.text(values)

        def read(text: str) -> list[Any]:
            return self.shown(ctx, text) if text else [gr.skip()] * (1 + len(fields))

        typed = [each.blur for each in fields if isinstance(each, gr.Textbox | gr.Number)]
        typed += [each.submit for each in fields if isinstance(each, gr.Textbox | gr.Number)]
        picked = [each.input for each in fields if isinstance(each, gr.Checkbox | gr.Dropdown)]
        quiet = {"show_progress": "hidden", "trigger_mode": "always_last"}
        ctx.on(partial(gr.on, [*typed, *picked]), written, fields, self.text, **quiet)
        ctx.on(self.text.change, read, self.text, [self.fault, *fields], **quiet)
