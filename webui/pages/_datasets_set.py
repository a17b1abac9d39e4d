"""One set: what adds pictures, shows them, and changes what is written about them. Every change shows the set anew."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages import _datasets_changes as changes
from webui.pages import _datasets_looks as looks
from webui.pages._datasets_captions import CaptionEdits
from webui.pages._datasets_picture import PicturePanel
from webui.pages._datasets_rights import RightsForm
from webui.pages._datasets_view import PICKS

__all__ = ["SetDesk"]

_RESOLUTIONS = (128, 512, 768, 1024)


@dataclass(frozen=True, kw_only=True)
class SetDesk:
    """The parts that show one set; `tools` are those that change it."""

    id: gr.State
    adding: gr.Column
    uploads: gr.File
    taken: gr.HTML
    doing: gr.HTML
    health: gr.HTML
    resolution: gr.Dropdown
    grid: gr.HTML
    panel: PicturePanel
    captions: CaptionEdits
    rights: RightsForm
    history: gr.HTML
    undo: gr.Button

    @classmethod
    def build(cls, ctx: Context, id: gr.State) -> "SetDesk":
        t = ctx.t
        with gr.Column(visible=False, elem_classes=ctx.needs("datasets.add_pictures")) as adding:
            gr.HTML(ctx.render("datasets_hint", text=t("datasets.drop")))
            uploads = gr.File(label=t("datasets.add"), file_count="multiple", type="filepath", height=160)
            taken = gr.HTML()
        doing, health = gr.HTML(), gr.HTML()
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                shown = gr.HTML(js_on_load=PICKS)
            panel = PicturePanel.build(ctx)
        captions, rights = CaptionEdits.build(ctx), RightsForm.build(ctx)
        with gr.Accordion(t("datasets.history"), open=False):
            made = gr.HTML()
            undo = gr.Button(t("datasets.undo"), visible=False, elem_classes=ctx.needs("datasets.undo"))
        sizes = [(t("datasets.resolution_own"), 0), *((t("datasets.resolution_of", n=n), n) for n in _RESOLUTIONS)]
        resolution = gr.Dropdown(sizes, value=0, label=t("datasets.resolution"), filterable=False)
        return cls(
            id=id, adding=adding, uploads=uploads, taken=taken, doing=doing, health=health, resolution=resolution,
            grid=shown, panel=panel, captions=captions, rights=rights, history=made, undo=undo,
        )  # fmt: skip

    @property
    def tools(self) -> list[Any]:
        return [self.adding, self.panel.tools, self.captions.group, self.rights.group, self.undo]

    def bind(self, ctx: Context, loaded: Any, head: gr.HTML) -> None:
        """Let every change show the set anew; it is first shown after the event `loaded`."""
        panel, captions, form = self.panel, self.captions, self.rights
        made = [
            (self.uploads.upload, changes.add(ctx), [self.id, self.uploads], [self.doing, self.taken, self.uploads]),
            (panel.save.click, changes.caption(ctx), [self.id, panel.held, panel.caption], panel.held),
            (panel.leave.click, changes.flag(ctx, "exclude"), [self.id, panel.picker], None),
            (panel.take.click, changes.flag(ctx, "include"), [self.id, panel.picker], None),
            (
                captions.apply.click,
                changes.apply(ctx, captions),
                [self.id, captions.promised, *captions.inputs],
                captions.preview_of,
            ),
            (captions.suggest.click, changes.suggest(ctx), [self.id, captions.captioner], None),
            (
                form.save.click,
                changes.state(ctx, form),
                [self.id, form.scope, panel.picker, captions.only, *form.fields],
                None,
            ),
            (self.undo.click, changes.undo(ctx), self.id, None),
        ]
        typed = [self.id, panel.held, panel.caption]
        events = []
        for event, function, given, out in made:
            if event not in (panel.save.click, self.undo.click):
                event = ctx.on(event, changes.keep(ctx), typed, panel.held, show_progress="hidden").success
            events.append(ctx.on(event, function, given, out, show_progress="hidden").success)
        parts = [head, self.doing, self.health, self.history, captions.only, self.grid, *panel.outputs]
        resized = ctx.on(self.resolution.input, changes.keep(ctx), typed, panel.held, show_progress="hidden").success
        given = [self.id, self.resolution, panel.picker, panel.held, panel.caption]
        shows = [
            ctx.on(event, looks.refreshing(ctx, panel), given, parts, show_progress="hidden").success
            for event in (loaded, resized, *events)
        ]
        shows.append(
            ctx.on(panel.written.change, looks.checking(ctx), given[:2], parts[:4], show_progress="hidden").success
        )
        for event in shows:
            seen = [self.grid, panel.shown]
            ctx.on(event, looks.seeing(ctx, panel), [*given[:2], panel.held], seen, show_progress="hidden")
        look = {"outputs": [panel.written, self.grid, *panel.outputs], "show_progress": "hidden"}
        ctx.on(self.grid.select, looks.picking(ctx, panel), given, **look)
        ctx.on(panel.picker.input, looks.looking(ctx, panel, 0), given, **look)
        ctx.on(panel.previous.click, looks.looking(ctx, panel, -1), given, **look)
        ctx.on(panel.next.click, looks.looking(ctx, panel, 1), given, **look)
        ctx.on(
            captions.preview.click,
            changes.preview(ctx, captions),
            [self.id, *captions.inputs],
            captions.preview_of,
            show_progress="hidden",
        )
