"""Who allows the use of the pictures: what is missing, and an admin's reason to go on without."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.users import allows

__all__ = ["Rights"]


@dataclass(frozen=True, kw_only=True)
class Rights:
    shown: gr.HTML
    override: gr.Textbox

    @classmethod
    def build(cls, ctx: Context) -> "Rights":
        t = ctx.t
        shown = gr.HTML()
        override = gr.Textbox(
            label=t("train.override"), info=t("train.override_info"), value="", max_length=2000, visible=False
        )
        return cls(shown=shown, override=override)

    def bind(self, ctx: Context, chosen: gr.State, seen: Any) -> None:
        """Show the rights of the set that is chosen, and anew at the event `seen`: they may be stated meanwhile."""

        def rights(set: str, request: gr.Request) -> tuple[str, Any]:
            if not set:
                return "", gr.update(visible=False)
            found = ctx.act(request, "train.rights", set=set)
            lacking = bool(found.missing or found.expired)
            admin = allows(ctx.user(request), "admin")
            shown = ctx.render("train_rights", found=found, set=set, admin=admin)
            return shown, gr.update(visible=lacking and admin, **({} if lacking else {"value": ""}))

        def choose(set: str, request: gr.Request) -> tuple[str, Any]:
            shown, override = rights(set, request)
            return shown, {**override, "value": ""}

        for event, function in ((chosen.change, choose), (seen, rights)):
            ctx.on(event, function, chosen, [self.shown, self.override], show_progress="hidden")
