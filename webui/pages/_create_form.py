"""What Create asks for: the picture in words, styles, a size, how many, and whatever fills these in."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.errors import BadRequest
from webui.pages._create_more import More
from webui.pages._create_text import TextForm
from webui.pages._create_words import Words
from webui.pages._losses import warn_of_losses
from webui.pages._styles import StyleRows

__all__ = ["Form"]

PURPOSES = ("square", "story", "banner", "a4", "photo")


@dataclass(frozen=True, kw_only=True)
class Form:
    prompt: gr.Textbox
    words: Words
    styles: StyleRows
    purpose: gr.Radio
    count: gr.Slider
    go: gr.Button
    stop: gr.Button
    more: More
    text: TextForm
    dropped: gr.File

    @classmethod
    def build(cls, ctx: Context) -> "Form":
        t = ctx.t
        prompt = gr.Textbox(
            label=t("create.prompt"), placeholder=t("create.prompt_example"), lines=3, max_length=4000, elem_id="prompt"
        )
        words = Words.build(ctx)
        styles = StyleRows.build(ctx)
        purposes = [(t(f"create.{each}"), each) for each in PURPOSES]
        purpose = gr.Radio(purposes, value="square", label=t("create.purpose"))
        count = gr.Slider(1, 8, value=2, step=1, label=t("create.count"))
        with gr.Row():
            go = gr.Button(t("create.go"), variant="primary", elem_id="go")
            stop = gr.Button(t("create.stop"), elem_id="stop")
        more = More.build(ctx)
        text = TextForm.build(ctx)
        with gr.Accordion(t("create.drop"), open=False):
            dropped = gr.File(label=t("create.drop_label"), file_types=[".png"], type="filepath")
        return cls(
            prompt=prompt, words=words, styles=styles, purpose=purpose, count=count, go=go, stop=stop, more=more,
            text=text, dropped=dropped,
        )  # fmt: skip

    @property
    def shape(self) -> list[Any]:
        """What decides a picture, as `settings` reads it."""
        return [self.prompt, self.styles.picker, *self.styles.sliders, self.purpose, self.count, *self.more.fields]

    @property
    def filled(self) -> list[Any]:
        """What `shown` fills in."""
        return [self.prompt, self.words.before, *self.styles.fields, self.purpose, *self.more.fields]

    def settings(self, ctx: Context, request: gr.Request, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return what the fields hold as `pictures.draw` takes it."""
        said, refs, rest = values[0], values[1], values[2:]
        if not (said or "").strip():
            raise BadRequest(ctx.t("create.empty_prompt"), hint=ctx.t("create.empty_prompt_hint"))
        if "<lora:" in said.casefold():
            raise BadRequest(ctx.t("create.tag_in_prompt"), hint=ctx.t("create.tag_in_prompt_hint"))
        sliders = len(self.styles.sliders)
        weights, (kind, number, *others) = rest[:sliders], rest[sliders:]
        side = ctx.act(request, "bases.size", purpose=kind)
        wanted = {"prompt": said, "styles": self.styles.used(refs, weights), "count": int(number)}
        return {**wanted, **side, **self.more.settings(others)}

    def shown(self, ctx: Context, request: gr.Request, said: dict[str, Any]) -> list[Any]:
        """Return updates of `filled` that show settings; what these do not say stays as it is."""
        picker, *strengths = self.styles.filled(ctx, request, said.get("styles", []))
        warn_of_losses(ctx, said, picker["value"], mixes=False)
        prompts, purpose = said.get("prompt", gr.update()), said.get("purpose", gr.update())
        if "purpose" in said:
            had = {name: said[name] for name in ("width", "height")}
            if ctx.act(request, "bases.size", purpose=purpose) != had:
                gr.Warning(ctx.t("create.other_size", **had))
        return [prompts, picker["value"], picker, *strengths, purpose, *self.more.filled(ctx, request, said)]

    def bind(self, ctx: Context, page: gr.Blocks) -> None:
        """Let text and fields follow each other, and a dropped picture bring its settings."""
        seen = [self.prompt, self.styles.picker, *self.styles.sliders]

        def read(request: gr.Request, said: str, refs: list[str], *weights: float) -> tuple[str, Any]:
            text = ctx.act(request, "pictures.as_text", prompt=said, styles=self.styles.used(refs, weights))
            return text, self.words.shown(ctx, request, said, refs)

        def from_text(written: str, request: gr.Request) -> list[Any]:
            return self.shown(ctx, request, ctx.act(request, "pictures.from_text", text=written))

        def reuse(path: str | None, request: gr.Request) -> list[Any]:
            return self.shown(ctx, request, ctx.act(request, "pictures.reuse", upload=path) if path else {})

        self.words.bind(ctx, page, self.prompt, self.styles.picker)
        quiet = {"show_progress": "hidden"}
        written = ctx.on(self.text.line.submit, from_text, self.text.line, self.filled, **quiet)
        reused = ctx.on(self.dropped.upload, reuse, self.dropped, self.filled, **quiet)
        moved = [each.release for each in self.styles.sliders]
        for event in (self.prompt.change, self.styles.settled.then, written.then, reused.then, *moved):
            told = ctx.on(event, read, seen, [self.text.told, self.words.ticks], trigger_mode="always_last", **quiet)
            self.text.show(told)
