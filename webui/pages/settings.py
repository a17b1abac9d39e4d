"""Settings: one's language, base models, users, tokens for scripts."""

from typing import Any

import gradio as gr

from webui.components import heading
from webui.context import Context
from webui.pages._settings_tokens import tokens
from webui.text import LANGUAGES
from webui.users import LOCAL

__all__ = ["NAME", "build"]

NAME = "settings"
LEAVE = """async () => { await fetch("/logout", { method: "POST" }); location.href = "/"; }"""
TO_SIGN_IN = "(to) => { if (to) setTimeout(() => { location.href = to; }, 3000); }"
ROLES = ("viewer", "creator", "trainer", "approver", "admin")


def build(ctx: Context, page: gr.Blocks) -> None:
    heading(ctx, ctx.t("settings.title"))
    with gr.Tabs():
        with gr.Tab(ctx.t("settings.mine")):
            _mine(ctx, page)
        with gr.Tab(ctx.t("settings.bases")):
            _bases(ctx, page)
        with gr.Tab(ctx.t("settings.users"), elem_id=f"users-{ctx.needs('users.add')}"):
            _users(ctx, page)


def _mine(ctx: Context, page: gr.Blocks) -> None:
    who = gr.HTML()
    language = gr.Radio(
        label=ctx.t("settings.language"),
        choices=[(name, code) for code, name in LANGUAGES.items()],
        value=ctx.t.language,
    )
    leave = gr.Button(ctx.t("settings.sign_out"), visible=False)
    mine = tokens(ctx, page)

    def load(request: gr.Request) -> tuple[str, Any, Any]:
        user = ctx.user(request)
        shown = gr.update(visible=user != LOCAL)
        return ctx.render("settings_who", user=user, alone=user == LOCAL), shown, shown

    def choose(code: str, request: gr.Request) -> None:
        ctx.act(request, "users.prefer", language=code)

    ctx.on(page.load, load, None, [who, leave, mine], show_progress="hidden")
    ctx.on(language.input, choose, language, None).then(
        None, language, None, js="(code) => { location.href = `/${code}/settings`; }"
    )
    leave.click(None, None, None, js=LEAVE, api_visibility="private")


def _bases(ctx: Context, page: gr.Blocks) -> None:
    gr.HTML(ctx.render("note", text=ctx.t("settings.bases_intro")))
    table = gr.HTML()
    chooses = ctx.needs("bases.choose")
    chosen = gr.Dropdown(label=ctx.t("settings.base"), choices=[], elem_classes=chooses)
    with gr.Row():
        use = gr.Button(ctx.t("settings.base_use"), variant="primary", elem_classes=chooses)
        look = gr.Button(ctx.t("settings.bases_look"))

    def show(anew: bool, request: gr.Request) -> tuple[str, Any]:
        found = ctx.act(request, "bases.list", look=anew)
        names = [each.name for each in found if not each.problem]
        current = next((each.name for each in found if each.current), None)
        return ctx.render("settings_bases", bases=found), gr.update(choices=names, value=current)

    def load(request: gr.Request) -> tuple[str, Any]:
        return show(False, request)

    def search(request: gr.Request) -> tuple[str, Any]:
        return show(True, request)

    def choose(name: str, request: gr.Request) -> tuple[str, Any]:
        ctx.act(request, "bases.choose", name=name or "")
        gr.Info(ctx.t("settings.base_chosen", base=name))
        return show(False, request)

    ctx.on(page.load, load, None, [table, chosen], show_progress="hidden")
    ctx.on(look.click, search, None, [table, chosen])
    ctx.on(use.click, choose, chosen, [table, chosen])


def _users(ctx: Context, page: gr.Blocks) -> None:
    table, target, picked = gr.HTML(), gr.Textbox(visible=False), gr.State("creator")
    roles = [(ctx.t(f"settings.role_{role}"), role) for role in ROLES]
    with gr.Row():
        name = gr.Textbox(label=ctx.t("settings.user_name"), max_length=64)
        role = gr.Dropdown(label=ctx.t("settings.user_role"), choices=roles, value="creator")
        password = gr.Textbox(
            label=ctx.t("settings.user_password"), info=ctx.t("settings.password_rule"), type="password", max_length=200
        )
    with gr.Row():
        add = gr.Button(ctx.t("settings.user_add"), variant="primary")
        change = gr.Button(ctx.t("settings.user_change"))
        remove = gr.Button(ctx.t("settings.user_remove"))

    def show(request: gr.Request) -> tuple[str, str]:
        if ctx.user(request).role != "admin":
            return "", ""
        return ctx.render("settings_users", users=ctx.act(request, "users.list")), ""

    def load(request: gr.Request) -> tuple[str, str, str]:
        first = "admin" if ctx.user(request) == LOCAL else "creator"
        return show(request)[0], first, first

    def added(who: str, what: str, word: str, request: gr.Request) -> tuple[str, str, str]:
        first = ctx.user(request) == LOCAL
        ctx.act(request, "users.add", name=who, role=what, password=word)
        if first:  # from here on nobody is signed in
            return ctx.render("note", text=ctx.t("settings.first_added", name=who)), "", f"/login?next={ctx.root}/"
        return *show(request), ""

    def changed(who: str, what: str, word: str, request: gr.Request) -> tuple[str, str]:
        ctx.act(request, "users.change", name=who, role=what, **({"password": word} if word else {}))
        gr.Info(ctx.t("settings.user_changed", name=who))
        return show(request)

    def removed(who: str, request: gr.Request) -> tuple[str, str]:
        ctx.act(request, "users.remove", name=who)
        return show(request)

    def known(who: str, chosen: str, request: gr.Request) -> str:
        """Show the role of somebody who is there, so that a new password changes nothing else.

        Ann is on the way to Anna: who is not there, gets the role that was picked, and not that of the letters before.
        """
        user = ctx.user(request)
        roles: dict[str, str] = (
            {each.name: each.role for each in ctx.act(request, "users.list")} if user.role == "admin" else {}
        )
        return roles.get(who, chosen)

    fields, outputs = [name, role, password], [table, password]
    ctx.on(page.load, load, None, [table, role, picked], show_progress="hidden")
    ctx.on(role.input, lambda what: what, role, picked, show_progress="hidden")
    done = ctx.on(add.click, added, fields, [*outputs, target])
    done.success(None, target, None, js=TO_SIGN_IN, api_visibility="private")
    ctx.on(name.change, known, [name, picked], role, trigger_mode="always_last", show_progress="hidden")
    ctx.on(change.click, changed, fields, outputs)
    ctx.on(remove.click, removed, name, outputs)
