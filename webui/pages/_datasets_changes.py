"""What the buttons of a set do: each is one action of the table, and a word when it is done."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._datasets_captions import CaptionEdits
from webui.pages._datasets_picture import Held
from webui.pages._datasets_rights import RightsForm
from webui.pages._datasets_work import told

__all__ = ["add", "apply", "caption", "flag", "keep", "kept", "preview", "state", "suggest", "undo"]


def add(ctx: Context) -> Any:
    """Return what takes uploads in and tells how far it is."""

    def run(id: str, paths: list[str] | None, request: gr.Request) -> Iterator[list[Any]]:
        uploads = list(paths or [])
        for doing, taken in told(ctx, request, "datasets.add_pictures", id=id, uploads=uploads):
            shown = [ctx.render("datasets_taken", taken=taken), None] if taken else [gr.skip(), gr.skip()]
            yield [doing, *shown]

    return run


def caption(ctx: Context) -> Any:
    """Return what writes the caption of the picture that is shown."""

    def run(id: str, held: Held, text: str, request: gr.Request) -> Held:
        ctx.act(request, "datasets.caption", id=id, file=held[0], text=text)
        gr.Info(ctx.t("datasets.saved"), duration=3)
        return held[0], text

    return run


def kept(ctx: Context, request: gr.Request, id: str, held: Held, text: str) -> bool:
    """Write what was typed as the caption of the picture that was shown; say whether it is another than was read."""
    file, read = held
    typed = bool(file) and text.strip() != read.strip()
    if typed:
        ctx.act(request, "datasets.caption", id=id, file=file, text=text)
        gr.Info(ctx.t("datasets.saved"), duration=3)
    return typed


def keep(ctx: Context) -> Any:
    """Return what writes a caption that was typed before something else is done to the set."""

    def run(id: str, held: Held, text: str, request: gr.Request) -> Any:
        return (held[0], text) if kept(ctx, request, id, held, text) else gr.skip()

    return run


def flag(ctx: Context, name: str) -> Any:
    """Return what leaves the picture that is shown out, or takes it in again."""

    def run(id: str, file: str, request: gr.Request) -> None:
        ctx.act(request, f"datasets.{name}", id=id, files=[file])

    return run


def preview(ctx: Context, form: CaptionEdits) -> Any:
    """Return what shows what an edit of many captions would change."""

    def run(id: str, request: gr.Request, *given: Any) -> list[Any]:
        edits = ctx.act(request, "datasets.edit_captions", id=id, **form.arguments(*given))
        return _promise(ctx, edits)

    return run


def _promise(ctx: Context, edits: list[Any]) -> list[Any]:
    label = ctx.t("datasets.apply", n=len(edits)) if edits else ctx.t("datasets.apply_none")
    return [ctx.render("datasets_edits", edits=edits), gr.update(interactive=bool(edits), value=label), edits]


def apply(ctx: Context, form: CaptionEdits) -> Any:
    """Return what makes the edit that was shown, once; where it would do something else by now, it is shown anew."""

    def run(id: str, promised: list[Any], request: gr.Request, *given: Any) -> list[Any]:
        if not promised:  # the second click of two
            return [gr.skip()] * 3
        asked = form.arguments(*given)
        edits = ctx.act(request, "datasets.edit_captions", id=id, **asked)
        if edits != promised:
            gr.Warning(ctx.t("datasets.look_again"), title=ctx.t("common.did_not_work"))
            return _promise(ctx, edits)
        ctx.act(request, "datasets.edit_captions", id=id, preview=False, **asked)
        gr.Info(ctx.t("datasets.saved"), duration=3)
        return ["", gr.update(interactive=False, value=ctx.t("datasets.apply_none")), []]

    return run


def suggest(ctx: Context) -> Any:
    """Return what writes captions for the pictures that have none."""

    def run(id: str, captioner: str, request: gr.Request) -> None:
        made = ctx.act(request, "datasets.suggest_captions", id=id, captioner=captioner)
        gr.Info(ctx.t("datasets.suggested", n=len(made)), duration=5)

    return run


def state(ctx: Context, form: RightsForm) -> Any:
    """Return what states rights."""

    def run(id: str, request: gr.Request, scope: str, file: str, only: list[str], *values: str) -> None:
        ctx.act(request, "datasets.rights", id=id, **form.arguments(scope, file, only, values))
        gr.Info(ctx.t("datasets.saved"), duration=3)

    return run


def undo(ctx: Context) -> Any:
    """Return what takes the last change back."""

    def run(id: str, request: gr.Request) -> None:
        done = ctx.act(request, "datasets.undo", id=id)
        gr.Info(ctx.t("datasets.undo_done", n=len(done["files"])), duration=5)

    return run
