"""What several pages show alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from webui.context import Context
from webui.users import LOCAL

__all__ = ["banner", "facts", "heading", "may_look", "pickable", "picked", "problem", "shots", "signed_in"]

_PICK = """
element.addEventListener("click", (event) => {
  const found = event.target.closest("[data-pick]");
  if (found) trigger("select", { pick: found.dataset.pick });
});
"""


def heading(ctx: Context, title: str, intro: str = "") -> None:
    """Put a page's title, which is its one h1, and a sentence below it."""
    gr.HTML(ctx.render("heading", title=title, intro=intro))


def banner(ctx: Context, page: gr.Blocks) -> None:
    """Say that the pictures are small on purpose, for as long as the demo model is the only one."""
    note = gr.HTML()

    def load(request: gr.Request) -> str:
        demo = ctx.act(request, "bases.current").get("base") == "demo"
        return ctx.render("banner", text=ctx.t("common.demo_banner")) if demo else ""

    ctx.on(page.load, load, None, note, show_progress="hidden")


def may_look(ctx: Context, name: str, text: str) -> None:
    """Tell those who may not do an action what they may do here instead."""
    gr.HTML(ctx.render("banner", text=text), elem_classes=ctx.lacks(name))


def signed_in(ctx: Context, page: gr.Blocks) -> None:
    """Say who is signed in and what they may do, where there are users."""
    note = gr.HTML(visible=False)

    def load(request: gr.Request) -> Any:
        user = ctx.user(request)
        return gr.skip() if user == LOCAL else gr.update(visible=True, value=ctx.render("signed_in", user=user))

    ctx.on(page.load, load, None, note, show_progress="hidden")


def shots(ctx: Context, pictures: Sequence[Mapping[str, Any]], *, title: str = "", empty: str = "") -> str:
    """Return a grid of pictures as HTML.

    Each has `src`, an address under /files; `alt`; `caption` and `href` may be left out. All of it is escaped.
    """
    return ctx.render("shots", shots=pictures, title=title, empty=empty)


def facts(ctx: Context, rows: Sequence[tuple[str, object]], *, caption: str = "") -> str:
    """Return a table of names and values as HTML."""
    return ctx.render("facts", rows=rows, caption=caption)


def problem(ctx: Context, text: str, hint: str = "") -> str:
    """Return what went wrong and the next step as HTML, announced to screen readers."""
    return ctx.render("problem", text=text, hint=hint)


def pickable(**options: Any) -> gr.HTML:
    """Return a place for HTML whose buttons with data-pick can be picked: its `select` event tells which.

    Pictures are shown by their address under /files, never as components of Gradio: those copy every file into a cache.
    """
    return gr.HTML(js_on_load=_PICK, **options)


def picked(event: gr.EventData) -> str:
    """Return the data-pick of what was picked, or nothing where a caller sent none."""
    said = getattr(event, "_data", None) or {}
    return str(said.get("pick", ""))
