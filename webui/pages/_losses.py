"""What the settings of a picture lose on a page: said at once, for the next picture will not be the same."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from markupsafe import escape

from webui.context import REFUSALS, Context
from webui.pages._styles import ROWS

__all__ = ["reused", "warn_of_losses"]


def reused(ctx: Context, request: gr.Request, id: str) -> dict[str, Any]:
    """Return the settings of a picture that an address names; where there are none it is told, and the page opens."""
    try:
        found: dict[str, Any] = ctx.act(request, "pictures.reuse", id=id) if id else {}
    except REFUSALS as error:
        ctx.refusal(error)
        return {}
    return found


def warn_of_losses(ctx: Context, said: dict[str, Any], shown: Sequence[str], *, mixes: bool) -> None:
    """Warn of all that a page cannot take over: it shows the styles `shown`, and `mixes` their parts and times."""
    styles = said.get("styles", [])
    unknown = [each["ref"] for each in styles[:ROWS] if each["ref"] not in shown]
    for key, names in (
        ("missing", [*said.get("missing", []), *unknown]),
        ("cut", said.get("cut", [])),
        ("many", [each["ref"] for each in styles[ROWS:]]),
        ("mixed", [each["ref"] for each in styles if not mixes and (each.get("blocks") or each.get("schedule"))]),
        ("other_base", [said["base"]] if said.get("base") else []),
    ):
        if names:  # of a picture from anywhere; a message is markup
            gr.Warning(ctx.t(f"create.{key}", names=escape(", ".join(names))))
    for note in said.get("notes", []):
        gr.Warning(escape(ctx.sentence(note)))
    if said.get("began"):
        gr.Warning(ctx.t("create.began"))
