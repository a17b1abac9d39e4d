"""What shows a set and the picture that is looked at: after a change, after a check, and beside another picture."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._datasets_changes import kept
from webui.pages._datasets_picture import NOTHING, Held, PicturePanel, beside
from webui.pages._datasets_view import grid, header, health, history
from webui.pages._datasets_work import told

__all__ = ["checking", "looking", "picking", "refreshing", "seeing"]


def refreshing(ctx: Context, panel: PicturePanel) -> Any:
    """Return what shows a set anew, and its health when the checks are done; what was typed and not written stays."""

    def refresh(
        id: str, resolution: int, file: str | None, held: Held, text: str | None, request: gr.Request
    ) -> Iterator[list[Any]]:
        if not id:
            return
        size = {"resolution": resolution or None}
        view = ctx.act(request, "datasets.show", id=id, wait=False, **size)
        typed = held if (text or "").strip() != held[1].strip() else NOTHING
        rest = [history(ctx, request, id), gr.update(choices=[row.file for row in view.pictures])]
        yield [
            header(ctx, view.row),
            "",
            health(ctx, view) or gr.skip(),
            *rest,
            *_show(ctx, panel, view, file, typed),
        ]
        if view.health is None:
            for doing, found in told(ctx, request, "datasets.show", id=id, **size):
                rest_kept: list[Any] = [gr.skip()] * (3 + len(panel.outputs))  # somebody may be typing by now
                yield [gr.skip(), doing, health(ctx, found) if found else gr.skip(), *rest_kept]

    return refresh


def checking(ctx: Context) -> Any:
    """Return what shows a set's counts, health and history after a caption was written; the panel stays as it is."""

    def check(id: str, resolution: int, request: gr.Request) -> Iterator[list[Any]]:
        size = {"resolution": resolution or None}
        row = ctx.act(request, "datasets.show", id=id, wait=False, **size).row
        yield [header(ctx, row), gr.skip(), gr.skip(), history(ctx, request, id)]
        for doing, found in told(ctx, request, "datasets.show", id=id, **size):
            yield [gr.skip(), doing, health(ctx, found) if found else gr.skip(), gr.skip()]

    return check


def seeing(ctx: Context, panel: PicturePanel) -> Any:
    """Return what shows the findings of a check on the picture that is looked at by then."""

    def seen(id: str, resolution: int, held: Held, request: gr.Request) -> list[Any]:
        if not held[0]:
            return [gr.skip(), gr.skip()]
        view = ctx.act(request, "datasets.show", id=id, wait=False, resolution=resolution or None)
        updates = _show(ctx, panel, view, held[0])
        return [updates[0], updates[3]]

    return seen


def picking(ctx: Context, panel: PicturePanel) -> Any:
    """Return what shows the picture that was picked in the grid; what was typed is written before."""

    def pick(
        id: str,
        resolution: int,
        file: str | None,
        held: Held,
        text: str,
        request: gr.Request,
        event: gr.EventData,
    ) -> list[Any]:
        chosen = str(event._data.get("file", "")) if isinstance(event._data, dict) else ""
        written = _written(ctx, request, id, held, text)
        view = ctx.act(request, "datasets.show", id=id, wait=False, resolution=resolution or None)
        return [written, *_show(ctx, panel, view, chosen)]

    return pick


def looking(ctx: Context, panel: PicturePanel, step: int) -> Any:
    """Return what shows the picture so many further on; what was typed is written before."""

    def look(id: str, resolution: int, file: str | None, held: Held, text: str, request: gr.Request) -> list[Any]:
        written = _written(ctx, request, id, held, text)
        view = ctx.act(request, "datasets.show", id=id, wait=False, resolution=resolution or None)
        return [written, *_show(ctx, panel, view, beside(view, file, step))]

    return look


def _written(ctx: Context, request: gr.Request, id: str, held: Held, text: str) -> Any:
    return time.monotonic_ns() if kept(ctx, request, id, held, text) else gr.skip()


def _show(ctx: Context, panel: PicturePanel, view: Any, file: str | None, typed: Held = NOTHING) -> list[Any]:
    updates = panel.updates(ctx, view, file or "")
    selected = updates[1]["value"]
    if selected and selected == typed[0]:
        updates[panel.outputs.index(panel.caption)] = gr.skip()
    return [grid(ctx, view, selected), *updates]
