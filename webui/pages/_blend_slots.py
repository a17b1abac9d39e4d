"""Where a mix comes from: what is suggested or asked for, one of three that were kept, or a recipe."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._blend_rows import BlendRows
from webui.pages._late_words import LateWords
from webui.pages._losses import reused, warn_of_losses
from webui.users import allows

__all__ = ["Slots"]

SLOTS = ("A", "B", "C")


@dataclass(frozen=True, kw_only=True)
class Slots:
    """`before` are the styles whose triggers were put into the prompt already."""

    keeps: dict[str, gr.Button]
    recalls: dict[str, gr.Button]
    dropped: gr.File
    before: gr.State
    late: LateWords

    @classmethod
    def build(cls, ctx: Context) -> "Slots":
        t = ctx.t
        with gr.Row():
            keeps = {slot: gr.Button(t("blend.keep_slot", slot=slot), size="sm") for slot in SLOTS}
        with gr.Row():
            recalls = {slot: gr.Button(t("blend.use_slot", slot=slot), size="sm") for slot in SLOTS}
        with gr.Accordion(t("blend.recipe"), open=False):
            dropped = gr.File(label=t("blend.recipe_file"), file_types=[".json"], type="filepath")
        return cls(keeps=keeps, recalls=recalls, dropped=dropped, before=gr.State([]), late=LateWords.build())

    def bind(self, ctx: Context, page: gr.Blocks, rows: BlendRows, prompt: gr.Textbox, seed: gr.Number) -> list[Any]:
        """Let each of them fill the rows, and styles that are picked bring their words; return events that filled."""

        def pick(said: str, known: list[str], refs: list[str], request: gr.Request) -> tuple[str, str, list[str]]:
            added = ctx.act(request, "pictures.with_styles", prompt=said, before=known, refs=refs or [])
            return said, added, refs or []

        def filled(request: gr.Request, said: str, known: list[str], styles: list[Any]) -> list[Any]:
            """Fill in a mix that has no prompt of its own: its styles count as picked by hand."""
            mix = [dict(each) for each in styles]
            picker, *fields = rows.filled(ctx, request, mix)
            warn_of_losses(ctx, {"styles": mix}, picker["value"], mixes=True)
            return [*pick(said, known, picker["value"], request)[1:], picker, *fields]

        def arrive(said: str, request: gr.Request) -> list[Any]:
            if not allows(ctx.user(request), "creator"):
                return [gr.skip()] * (1 + len(outputs))
            ctx.act(request, "pictures.warm")
            asked = dict(request.query_params)
            found = reused(ctx, request, asked.get("from", ""))
            if not found:
                return [gr.skip(), *filled(request, said, [], ctx.act(request, "blend.suggest"))]
            picker, *fields = rows.filled(ctx, request, found["styles"])
            warn_of_losses(ctx, found, picker["value"], mixes=True)
            said = found.get("prompt") or gr.update()
            return [found.get("seed", gr.skip()), said, picker["value"], picker, *fields]

        def keep(slot: str) -> Any:
            def run(request: gr.Request, *values: Any) -> None:
                ctx.act(request, "blend.remember", slot=slot, styles=rows.mix(values[0], values[1:]))
                gr.Info(ctx.t("blend.kept", slot=slot))

            return run

        def recall(slot: str) -> Any:
            def run(said: str, known: list[str], request: gr.Request) -> list[Any]:
                styles = ctx.act(request, "blend.recall", slot=slot)
                if not styles:
                    gr.Info(ctx.t("blend.empty_slot", slot=slot))
                    return [gr.skip()] * len(outputs)
                return filled(request, said, known, styles)

            return run

        def opened(path: str | None, said: str, known: list[str], request: gr.Request) -> list[Any]:
            styles = ctx.act(request, "blend.open_recipe", upload=path).styles if path else []
            return filled(request, said, known, styles)

        quiet = {"show_progress": "hidden"}
        outputs, given = [prompt, self.before, *rows.outputs], [prompt, self.before]
        ctx.on(page.load, arrive, prompt, [seed, *outputs], **quiet)
        picked = ctx.on(rows.picker.input, pick, [*given, rows.picker], [*self.late.outputs, self.before], **quiet)
        self.late.meet(picked, prompt)
        events = [ctx.on(self.dropped.upload, opened, [self.dropped, *given], outputs, **quiet)]
        for slot in SLOTS:
            ctx.on(self.keeps[slot].click, keep(slot), rows.inputs, None, **quiet)
            events.append(ctx.on(self.recalls[slot].click, recall(slot), given, outputs, **quiet))
        return [each.success for each in events]
