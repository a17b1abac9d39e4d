"""What the settings of a picture lose on a page: said at once, for the next picture will not be the same."""

from typing import Any

import gradio as gr
from markupsafe import escape

from webui.context import Context
from webui.pages._styles import ROWS

__all__ = ["warn_of_losses"]


def warn_of_losses(ctx: Context, said: dict[str, Any], *, mixes: bool) -> None:
    """Warn of all that a page cannot take over; `mixes` says that it has fields for parts and times of a style."""
    styles = said.get("styles", [])
    for key, names in (
        ("missing", said.get("missing", [])),
        ("cut", said.get("cut", [])),
        ("many", [each["ref"] for each in styles[ROWS:]]),
        ("mixed", [each["ref"] for each in styles if not mixes and (each.get("blocks") or each.get("schedule"))]),
        ("other_base", [said["base"]] if said.get("base") else []),
    ):
        if names:  # of a picture from anywhere; a message is markup
            gr.Warning(ctx.t(f"create.{key}", names=escape(", ".join(names))))
    if said.get("began"):
        gr.Warning(ctx.t("create.began"))
