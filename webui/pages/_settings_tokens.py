"""Tokens for one's own scripts: what there are, a new one, and the end of one."""

from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["tokens"]


def tokens(ctx: Context, page: gr.Blocks) -> gr.Column:
    """Return the part about tokens, hidden."""
    with gr.Column(visible=False) as part:
        table = gr.HTML()
        chosen = gr.Dropdown(label=ctx.t("settings.token"), choices=[], visible=False)
        end = gr.Button(ctx.t("settings.token_revoke"), visible=False)
        label = gr.Textbox(label=ctx.t("settings.token_label"), info=ctx.t("settings.token_info"), max_length=80)
        make = gr.Button(ctx.t("settings.token_make"))
        secret = gr.Textbox(label=ctx.t("settings.token_once"), interactive=False, visible=False, buttons=["copy"])
    shown = [table, chosen, end]

    def show(request: gr.Request) -> tuple[str, Any, Any]:
        found = ctx.act(request, "users.tokens")
        names = {each.id: each.label or ctx.t("settings.token_unnamed") for each in found}
        choices = [(f"{names[each.id]} · {ctx.t.day(each.created)}", each.id) for each in found]
        asked = gr.update(choices=choices, value=None, visible=bool(found))
        return ctx.render("settings_tokens", tokens=found), asked, gr.update(visible=False)

    def offer(id: str | None) -> Any:
        return gr.update(visible=bool(id))

    def made(name: str, request: gr.Request) -> tuple[Any, str, str, Any, Any]:
        told = ctx.act(request, "users.token", label=name)["token"]
        return gr.update(value=told, visible=True), "", *show(request)

    def ended(id: str | None, request: gr.Request) -> tuple[str, Any, Any]:
        ctx.act(request, "users.revoke", id=id or "")
        return show(request)

    ctx.on(page.load, show, None, shown, show_progress="hidden")
    ctx.on(chosen.change, offer, chosen, end, show_progress="hidden")
    ctx.on(make.click, made, label, [secret, label, *shown])
    ctx.on(end.click, ended, chosen, shown)
    return part
