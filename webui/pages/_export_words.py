"""What the export page says of styles: which there are, what one should know before it leaves, what left already."""

from datetime import date
from typing import Any

import gradio as gr

from webui.context import Context
from webui.release import file_name
from webui.users import allows

__all__ = ["choices_of", "notice_of", "opened_of", "weights_of"]


def choices_of(ctx: Context, request: gr.Request, asked: str) -> list[tuple[str, str]]:
    """Return the styles that can be picked, approved ones first, and the version that was asked for."""
    found = list(ctx.act(request, "library.list"))
    if asked and asked not in {each.ref for each in found}:
        found.append(ctx.act(request, "library.show", ref=asked))
    found.sort(key=lambda each: (each.stage != "approved", each.name.casefold()))
    return [(f"{each.name} v{each.number} · {_stage(ctx, each)}", each.ref) for each in found]


def notice_of(ctx: Context, version: Any, *, may: bool) -> str:
    """Return what should be known before this version leaves; nothing where all is well."""
    ended = version.details.expires
    if ended and ended >= date.today().isoformat():
        ended = ""
    return ctx.render(
        "export_notice",
        version=version,
        may=may,
        ended=ended,
        stage=_stage(ctx, version),
        file=file_name(version, ".safetensors"),
    )


def weights_of(version: Any) -> tuple[float | None, float | None]:
    """Return the strengths between which a version works, in per cent."""
    low, high = version.details.weight_low, version.details.weight_high
    return (None if low is None else round(100 * low)), (None if high is None else round(100 * high))


def opened_of(ctx: Context, request: gr.Request) -> str:
    """Return the visitor's exports as a list with links."""
    if not allows(ctx.user(request), "creator"):
        return ""
    return ctx.render("export_mine", rows=ctx.act(request, "export.list", limit=10))


def _stage(ctx: Context, version: Any) -> str:
    return ctx.t("common.blocked" if version.blocked else f"common.{version.stage}")
