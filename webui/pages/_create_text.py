"""The whole form as one line of text, with its styles written the way other programs write them."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["TextForm"]

_TAKE_OVER = """(told, written, put) => {
    const box = document.querySelector("#text-form textarea");
    return box && box === document.activeElement && written !== put ? [written, put] : [told, told];
}"""
"""Answers come late: they must not write over what somebody is typing."""

_QUIET = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class TextForm:
    """A line that follows the fields. `told` is what they hold now, `put` what was put there last or sent from it."""

    line: gr.Textbox
    told: gr.Textbox
    put: gr.Textbox

    @classmethod
    def build(cls, ctx: Context) -> "TextForm":
        with gr.Accordion(ctx.t("create.text_form"), open=False):
            line = gr.Textbox(
                label=ctx.t("create.text"), info=ctx.t("create.text_info"), lines=1, max_lines=4, max_length=6000,
                elem_id="text-form",
            )  # fmt: skip
        told, put = (gr.Textbox(visible="hidden", container=False) for _ in range(2))
        line.submit(None, line, put, js="(written) => written", **_QUIET)
        return cls(line, told, put)

    def show(self, told: Any) -> None:
        """After this event show what is in `told`, unless something else is being typed."""
        told.then(None, [self.told, self.line, self.put], [self.line, self.put], js=_TAKE_OVER, **_QUIET)
