"""Activity: what runs and waits, what was done by whom, what it takes on the disk."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.components import heading, problem
from webui.context import Context
from webui.text import catalogue
from webui.users import allows

__all__ = ["NAME", "build"]

NAME = "activity"
SHOWN = 50

CAN = {
    "queued": ("pause", "stop", "up", "down"),
    "running": ("pause", "stop"),
    "paused": ("resume", "stop"),
    "stopped": ("resume", "retry", "remove"),
    "failed": ("retry", "remove"),
    "done": ("remove",),
}
"""State of a job -> what can be done with it."""

TRAINED = {("running", "pause"), ("stopped", "resume")}
"""What of this only a training can."""


def build(ctx: Context, page: gr.Blocks) -> None:
    heading(ctx, ctx.t("activity.title"), ctx.t("activity.intro"))
    with gr.Tabs():
        with gr.Tab(ctx.t("activity.jobs")):
            _jobs(ctx, page)
        with gr.Tab(ctx.t("activity.audit")):
            _audit(ctx, page)
        with gr.Tab(ctx.t("activity.disk")):
            _disk(ctx, page)


def _jobs(ctx: Context, page: gr.Blocks) -> None:
    mine = gr.Checkbox(label=ctx.t("activity.mine"), value=False)
    table = gr.HTML()
    chosen = gr.Dropdown(
        label=ctx.t("activity.job"),
        info=ctx.t("activity.job_info"),
        choices=[],
        value=None,
        visible=False,
        elem_classes=ctx.needs("jobs.stop"),
    )
    names = ("pause", "resume", "stop", "retry", "up", "down", "remove")
    with gr.Row(elem_classes=ctx.needs("jobs.stop")):
        buttons = {name: gr.Button(ctx.t(f"activity.{name}"), visible=False) for name in names}

    def show(only_mine: bool, job: str | None, request: gr.Request) -> tuple[str, Any]:
        rows = ctx.act(request, "jobs.list", mine=only_mine, limit=SHOWN)
        choices = [(f"{row.title} · {ctx.t(f'jobs.{row.state}')} · {ctx.named(row.owner)}", row.id) for row in rows]
        gone = {"value": None} if job and job not in {row.id for row in rows} else {}  # another may be chosen by now
        return ctx.render("activity_jobs", rows=rows), gr.update(choices=choices, visible=bool(choices), **gone)

    def offer(job: str | None, request: gr.Request) -> list[Any]:
        """Show what can be done with a job in its state."""
        row = ctx.act(request, "jobs.show", id=job) if job else None
        user = ctx.user(request)
        can = CAN.get(row.state, ()) if row and (row.owner == user.name or allows(user, "admin")) else ()
        if row and row.kind != "train":
            can = tuple(each for each in can if (row.state, each) not in TRAINED)
        return [gr.update(visible=name in can) for name in names]

    def doing(name: str, **more: Any) -> Any:
        def change(only_mine: bool, job: str | None, request: gr.Request) -> tuple[str, Any]:
            if job:
                ctx.act(request, f"jobs.{name}", id=job, **more)
            return show(only_mine, job, request)

        return change

    both = [table, chosen]
    for event in (page.load, mine.change, gr.Timer(3).tick):
        shown = ctx.on(event, show, [mine, chosen], both, show_progress="hidden")
        ctx.on(shown.then, offer, chosen, list(buttons.values()), show_progress="hidden")  # its state may be another
    ctx.on(chosen.change, offer, chosen, list(buttons.values()), show_progress="hidden")
    for name, button in buttons.items():
        change = doing("move", direction=name) if name in ("up", "down") else doing(name)
        changed = ctx.on(button.click, change, [mine, chosen], both)
        ctx.on(changed.then, offer, chosen, list(buttons.values()), show_progress="hidden")


def _audit(ctx: Context, page: gr.Blocks) -> None:
    oldest = gr.State(0)
    with gr.Row():
        verify = gr.Button(ctx.t("activity.verify"), variant="primary", elem_classes=ctx.needs("system.verify"))
        earlier = gr.Button(ctx.t("activity.earlier"), visible=False)
    verdict, table = gr.HTML(), gr.HTML()

    def show(before: int, request: gr.Request) -> tuple[str, int, Any]:
        events = ctx.act(request, "system.audit", before=before, limit=SHOWN + 1)
        rows = [(each, _did(ctx, each.what)) for each in events[:SHOWN]]
        more = len(events) > SHOWN
        return ctx.render("activity_audit", events=rows), rows[-1][0].number if more else 0, gr.update(visible=more)

    def check(request: gr.Request) -> Iterator[str]:
        yield ctx.render("note", text=ctx.t("activity.verifying"))
        faults = ctx.act(request, "system.verify")
        damage = [each for each in faults if each.severity == "blocks"]
        if damage:
            yield problem(ctx, ctx.t("activity.damaged", n=len(damage)), "; ".join(each.reason for each in damage[:5]))
        else:
            yield ctx.render("note", text=ctx.t("activity.whole"))

    ctx.on(page.load, show, oldest, [table, oldest, earlier], show_progress="hidden")
    ctx.on(earlier.click, show, oldest, [table, oldest, earlier])
    ctx.on(verify.click, check, None, verdict)


def _did(ctx: Context, what: str) -> str:
    """Return what an event tells, in words; what an earlier version told may have none."""
    key = f"activity.did_{what.replace('.', '_').replace(' ', '_')}"
    return ctx.t(key) if key in catalogue() else what


def _disk(ctx: Context, page: gr.Blocks) -> None:
    table = gr.HTML()
    clean = gr.Button(ctx.t("activity.clean"), elem_classes=ctx.needs("system.clean"))

    def show(request: gr.Request) -> str:
        found = ctx.act(request, "system.disk")
        return ctx.render("activity_disk", **found)

    def free(request: gr.Request) -> str:
        freed = ctx.act(request, "system.clean")["freed"]
        gr.Info(ctx.t("activity.cleaned", mb=ctx.t.number(freed / 1e6, 1)))
        return show(request)

    ctx.on(page.load, show, None, table, show_progress="hidden")
    ctx.on(clean.click, free, None, table)
