"""Words that come into a prompt by an answer of the server, while somebody may be typing there."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

__all__ = ["LateWords"]

_MEET = """(sent, answer, now) => {
    if (now === sent) return answer;
    const parts = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
    const [had, has, typed] = [parts(sent), parts(answer), parts(now)];
    const gone = had.filter((part) => !has.includes(part));
    const added = has.filter((part) => !had.includes(part) && !typed.includes(part));
    const rest = gone.length ? typed.filter((part) => !gone.includes(part)).join(", ") : now;
    return [...added, ...(rest.trim() ? [rest] : [])].join(", ");
}"""
"""What was typed after the question was sent stays; words that the answer brings or takes come and go beside it."""


@dataclass(frozen=True)
class LateWords:
    """`outputs` take the prompt as it was sent and as it is answered."""

    sent: gr.Textbox
    answer: gr.Textbox

    @classmethod
    def build(cls) -> "LateWords":
        return cls(*(gr.Textbox(visible="hidden", container=False) for _ in range(2)))

    @property
    def outputs(self) -> list[gr.Textbox]:
        return [self.sent, self.answer]

    def meet(self, answered: Any, prompt: gr.Textbox) -> None:
        """After this event put the answer into the prompt."""
        answered.then(None, [*self.outputs, prompt], prompt, js=_MEET, api_visibility="private", show_progress="hidden")
