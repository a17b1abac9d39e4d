"""One set: what adds pictures, shows them, and changes what is written about them. Every change shows the set anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages import _datasets_changes as changes
from webui.pages._datasets_captions import CaptionEdits
from webui.pages._datasets_picture import PicturePanel, beside
from webui.pages._datasets_rights import RightsForm
from webui.pages._datasets_view import PICKS, grid, header, health, history
from webui.pages._datasets_work import told

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
        with gr.Column(visible=False) as adding:
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
            undo = gr.Button(t("datasets.undo"), visible=False)
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
            (panel.save.click, changes.caption(ctx), [self.id, panel.picker, panel.caption], None),
            (panel.leave.click, changes.flag(ctx, "exclude"), [self.id, panel.picker], None),
            (panel.take.click, changes.flag(ctx, "include"), [self.id, panel.picker], None),
            (
                captions.apply.click,
                changes.apply(ctx, captions),
                [self.id, *captions.inputs],
                [captions.table, captions.apply],
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
        events = [ctx.on(event, function, given, out).success for event, function, given, out in made]
        parts = [head, self.doing, self.health, self.history, captions.only, self.grid, *panel.outputs]
        for event in (loaded, self.resolution.input, *events):
            ctx.on(event, self._refresh(ctx), [self.id, self.resolution, panel.picker], parts, show_progress="hidden")
        look = {"outputs": [self.grid, *panel.outputs], "show_progress": "hidden"}
        given = [self.id, self.resolution, panel.picker]
        ctx.on(self.grid.select, self._pick(ctx), given, **look)
        ctx.on(panel.picker.input, self._look(ctx, 0), given, **look)
        ctx.on(panel.previous.click, self._look(ctx, -1), given, **look)
        ctx.on(panel.next.click, self._look(ctx, 1), given, **look)
        shown = [captions.table, captions.apply]
        ctx.on(captions.preview.click, changes.preview(ctx, captions), [self.id, *captions.inputs], shown)

    def _show(self, ctx: Context, view: Any, file: str | None) -> list[Any]:
        updates = self.panel.updates(ctx, view, file or "")
        selected = updates[1]["value"]
        return [grid(ctx, view, selected), *updates]

    def _refresh(self, ctx: Context) -> Any:
        def refresh(id: str, resolution: int, file: str | None, request: gr.Request) -> Iterator[list[Any]]:
            if not id:
                return
            size = {"resolution": resolution or None}
            view = ctx.act(request, "datasets.show", id=id, wait=False, **size)
            rest = [history(ctx, request, id), gr.update(choices=[row.file for row in view.pictures])]
            yield [
                header(ctx, request, view.row),
                "",
                health(ctx, view) or gr.skip(),
                *rest,
                *self._show(ctx, view, file),
            ]
            if view.health is None:
                for doing, found in told(ctx, request, "datasets.show", id=id, **size):
                    kept: list[Any] = [gr.skip()] * (1 + len(self.panel.outputs))
                    shown = self._show(ctx, found, file) if found else kept
                    told_health = health(ctx, found) if found else gr.skip()
                    yield [gr.skip(), doing, told_health, gr.skip(), gr.skip(), *shown]

        return refresh

    def _pick(self, ctx: Context) -> Any:
        def pick(id: str, resolution: int, file: str | None, request: gr.Request, event: gr.EventData) -> list[Any]:
            chosen = str(event._data.get("file", "")) if isinstance(event._data, dict) else ""
            view = ctx.act(request, "datasets.show", id=id, wait=False, resolution=resolution or None)
            return self._show(ctx, view, chosen)

        return pick

    def _look(self, ctx: Context, step: int) -> Any:
        def look(id: str, resolution: int, file: str | None, request: gr.Request) -> list[Any]:
            view = ctx.act(request, "datasets.show", id=id, wait=False, resolution=resolution or None)
            return self._show(ctx, view, beside(view, file, step))

        return look
