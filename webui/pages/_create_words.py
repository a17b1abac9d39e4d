"""Words of a prompt that somebody else knows: triggers of the styles, and examples that the demo model can draw."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._late_words import LateWords

__all__ = ["Words"]

EXAMPLES = ("rocket", "guitar", "penguin", "cactus", "bicycle", "crown")
"""What the model that comes with the package was taught, among others."""


@dataclass(frozen=True)
class Words:
    """Ticks for the triggers of the styles that are picked, and buttons that fill the prompt.

    The prompt decides: a trigger is ticked where the prompt holds it. `before` are the styles whose triggers were put
    into the prompt already, or came with it.
    """

    examples: gr.Row
    buttons: list[gr.Button]
    ticks: gr.CheckboxGroup
    before: gr.State
    late: LateWords

    @classmethod
    def build(cls, ctx: Context) -> "Words":
        late = LateWords.build()  # here: between ticks and picker it would part their box
        with gr.Row(visible=False) as examples:
            buttons = [gr.Button(ctx.t(f"create.example_{each}"), size="sm", min_width=110) for each in EXAMPLES]
        ticks = gr.CheckboxGroup(label=ctx.t("create.triggers"), choices=[], visible=False)
        return cls(examples, buttons, ticks, gr.State([]), late)

    def bind(self, ctx: Context, page: gr.Blocks, prompt: gr.Textbox, picker: gr.Dropdown) -> None:
        """Let styles that are picked by hand, ticks and examples change the prompt."""

        def tick(said: str, chosen: list[str], refs: list[str], request: gr.Request) -> tuple[str, str]:
            return said, ctx.act(request, "pictures.with_words", prompt=said, words=chosen, refs=refs or [])

        def pick(said: str, before: list[str], refs: list[str], request: gr.Request) -> tuple[str, str, list[str]]:
            return said, self.added(ctx, request, said, before, refs), refs or []

        def offer(request: gr.Request) -> Any:
            return gr.update(visible=ctx.act(request, "bases.current")["base"] == "demo")

        quiet = {"show_progress": "hidden"}
        ctx.on(page.load, offer, None, self.examples, **quiet)
        given, late = [prompt, self.before, picker], self.late.outputs
        ticked = ctx.on(self.ticks.input, tick, [prompt, self.ticks, picker], late, **quiet)
        picked = ctx.on(picker.input, pick, given, [*late, self.before], **quiet)
        for event in (ticked, picked):
            self.late.meet(event, prompt)
        for name, button in zip(EXAMPLES, self.buttons, strict=True):
            ctx.on(button.click, self._example(ctx, name), [self.ticks, picker], prompt, **quiet)

    def added(self, ctx: Context, request: gr.Request, said: str, before: list[str], refs: list[str] | None) -> str:
        """Return a prompt with the triggers of styles that were picked by hand."""
        return str(ctx.act(request, "pictures.with_styles", prompt=said, before=before, refs=refs or []))

    def shown(self, ctx: Context, request: gr.Request, said: str, refs: list[str] | None) -> Any:
        """Return an update of the ticks for a prompt and its styles."""
        found = ctx.act(request, "pictures.triggers", prompt=said, refs=refs or [])
        return gr.update(choices=found["offered"], value=found["held"], visible=bool(found["offered"]))

    def _example(self, ctx: Context, name: str) -> Any:
        def fill(chosen: list[str], refs: list[str], request: gr.Request) -> str:
            said = ctx.t(f"create.example_{name}")
            return str(ctx.act(request, "pictures.with_words", prompt=said, words=chosen, refs=refs or []))

        return fill
