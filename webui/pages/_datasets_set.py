"""One set: what adds pictures, shows them, and changes what is written about them. Every change shows the set anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from webui.context import Context
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
            uploads = gr.File(label=t("datasets.drop"), file_count="multiple", type="filepath", height=160)
            taken = gr.HTML()
        doing, health = gr.HTML(), gr.HTML()
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                shown = gr.HTML(js_on_load=PICKS)
            panel = PicturePanel.build(ctx)
        captions, rights = CaptionEdits.build(ctx), RightsForm.build(ctx)
        with gr.Accordion(t("datasets.history"), open=False):
            changes = gr.HTML()
            undo = gr.Button(t("datasets.undo"), visible=False)
        sizes = [(t("datasets.resolution_own"), 0), *((t("datasets.resolution_of", n=n), n) for n in _RESOLUTIONS)]
        resolution = gr.Dropdown(sizes, value=0, label=t("datasets.resolution"), filterable=False)
        return cls(
            id=id, adding=adding, uploads=uploads, taken=taken, doing=doing, health=health, resolution=resolution,
            grid=shown, panel=panel, captions=captions, rights=rights, history=changes, undo=undo,
        )  # fmt: skip

    @property
    def tools(self) -> list[Any]:
        return [self.adding, self.panel.tools, self.captions.group, self.rights.group, self.undo]

    def bind(self, ctx: Context, loaded: Any, head: gr.HTML) -> None:
        """Let every change show the set anew; it is first shown after the event `loaded`."""
        panel, captions, form = self.panel, self.captions, self.rights
        change = [
            (self.uploads.upload, self._add(ctx), [self.id, self.uploads], [self.doing, self.taken, self.uploads]),
            (panel.save.click, self._caption(ctx), [self.id, panel.picker, panel.caption], None),
            (panel.leave.click, self._flag(ctx, "exclude"), [self.id, panel.picker], None),
            (panel.take.click, self._flag(ctx, "include"), [self.id, panel.picker], None),
            (captions.apply.click, self._apply(ctx), [self.id, *captions.inputs], [captions.table, captions.apply]),
            (captions.suggest.click, self._suggest(ctx), [self.id, captions.captioner], None),
            (form.save.click, self._state(ctx), [self.id, form.scope, panel.picker, captions.only, *form.fields], None),
            (self.undo.click, self._undo(ctx), self.id, None),
        ]
        events = [ctx.on(event, function, given, out).success for event, function, given, out in change]
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
        ctx.on(captions.preview.click, self._preview(ctx), [self.id, *captions.inputs], shown)

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

    def _add(self, ctx: Context) -> Any:
        def add(id: str, paths: list[str] | None, request: gr.Request) -> Iterator[list[Any]]:
            uploads = [str(Path(path).relative_to(ctx.studio.home / "uploads")) for path in paths or []]
            for doing, taken in told(ctx, request, "datasets.add_pictures", id=id, uploads=uploads):
                shown = [ctx.render("datasets_taken", taken=taken), None] if taken else [gr.skip(), gr.skip()]
                yield [doing, *shown]

        return add

    def _caption(self, ctx: Context) -> Any:
        def caption(id: str, file: str, text: str, request: gr.Request) -> None:
            ctx.act(request, "datasets.caption", id=id, file=file, text=text)
            gr.Info(ctx.t("datasets.saved"), duration=3)

        return caption

    def _flag(self, ctx: Context, name: str) -> Any:
        def flag(id: str, file: str, request: gr.Request) -> None:
            ctx.act(request, f"datasets.{name}", id=id, files=[file])

        return flag

    def _preview(self, ctx: Context) -> Any:
        def preview(id: str, request: gr.Request, *given: Any) -> list[Any]:
            edits = ctx.act(request, "datasets.edit_captions", id=id, **self.captions.arguments(*given))
            label = ctx.t("datasets.apply", n=len(edits)) if edits else ctx.t("datasets.apply_none")
            return [ctx.render("datasets_edits", edits=edits), gr.update(interactive=bool(edits), value=label)]

        return preview

    def _apply(self, ctx: Context) -> Any:
        def apply(id: str, request: gr.Request, *given: Any) -> list[Any]:
            ctx.act(request, "datasets.edit_captions", id=id, preview=False, **self.captions.arguments(*given))
            gr.Info(ctx.t("datasets.saved"), duration=3)
            return ["", gr.update(interactive=False, value=ctx.t("datasets.apply_none"))]

        return apply

    def _suggest(self, ctx: Context) -> Any:
        def suggest(id: str, captioner: str, request: gr.Request) -> None:
            made = ctx.act(request, "datasets.suggest_captions", id=id, captioner=captioner)
            gr.Info(ctx.t("datasets.suggested", n=len(made)), duration=5)

        return suggest

    def _state(self, ctx: Context) -> Any:
        def state(id: str, request: gr.Request, scope: str, file: str, only: list[str], *values: str) -> None:
            ctx.act(request, "datasets.rights", id=id, **self.rights.arguments(scope, file, only, values))
            gr.Info(ctx.t("datasets.saved"), duration=3)

        return state

    def _undo(self, ctx: Context) -> Any:
        def undo(id: str, request: gr.Request) -> None:
            done = ctx.act(request, "datasets.undo", id=id)
            gr.Info(ctx.t("datasets.undo_done", n=len(done["files"])), duration=5)

        return undo
