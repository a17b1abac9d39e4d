"""A training as it goes: how far it is, its loss, what it draws on the way, and what can be done about it."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.components import problem
from webui.context import Context
from webui.errors import StudioError
from webui.pages._train_curve import curve
from webui.pages._train_review import OPEN

__all__ = ["Live"]

BUTTONS = {
    "pause": ("queued", "running"),
    "resume": ("paused", "stopped", "failed"),
    "keep": ("running", "pausing", "paused", "stopped", "failed"),
    "stop": ("queued", "running", "pausing", "paused"),
}
"""What can be done -> the states in which it can."""


@dataclass(frozen=True, kw_only=True)
class Live:
    id: gr.State
    status: gr.HTML
    buttons: dict[str, gr.Button]
    moves: gr.Row
    when: gr.Slider
    seen: gr.State
    strip: gr.HTML
    curve: gr.HTML
    numbers: gr.Accordion
    table: gr.HTML

    @classmethod
    def build(cls, ctx: Context) -> "Live":
        t = ctx.t
        id, seen = gr.State(""), gr.State([])
        status = gr.HTML(elem_id="training")
        with gr.Row(elem_classes=ctx.needs("jobs.pause")):
            buttons = {
                name: gr.Button(
                    t(f"train.{name}"), visible=False, elem_id=name, variant="stop" if name == "stop" else "secondary"
                )
                for name in BUTTONS
            }
        with gr.Row(visible=False, elem_classes=ctx.needs("jobs.move")) as moves:
            up, down = gr.Button(t("train.up")), gr.Button(t("train.down"))
        strip = gr.HTML()
        when = gr.Slider(1, 2, value=1, step=1, label=t("train.look_at"), info=t("train.look_at_info"), visible=False)
        drawn = gr.HTML()
        with gr.Accordion(t("train.as_table"), open=False, visible=False) as numbers:  # stays open while it is renewed
            table = gr.HTML()
        made = cls(
            id=id,
            status=status,
            buttons=buttons,
            moves=moves,
            when=when,
            seen=seen,
            strip=strip,
            curve=drawn,
            numbers=numbers,
            table=table,
        )
        made._bind(ctx, up, down)
        return made

    @property
    def outputs(self) -> list[Any]:
        return [
            self.status,
            *self.buttons.values(),
            self.moves,
            self.seen,
            self.when,
            self.strip,
            self.curve,
            self.numbers,
            self.table,
        ]

    def shown(self, ctx: Context, request: gr.Request, id: str, seen: list[int], when: int) -> list[Any]:
        """Return what `outputs` show; pictures and slider stay as they are where nothing new was drawn."""
        try:
            found = ctx.act(request, "train.watch", id=id)
        except StudioError as error:
            hidden = [gr.update(visible=False)] * (len(BUTTONS) + 1)
            return [problem(ctx, str(error), error.hint), *hidden, *[gr.skip()] * (len(self.outputs) - 1 - len(hidden))]
        state = found.job.state
        drawn, table = curve(ctx, found.curve)
        able = {name: found.mine and state in states for name, states in BUTTONS.items()}
        able["keep"] &= found.loss is not None
        steps = [each.step for each in found.previews]
        new = steps != seen
        place = len(steps) if new and when >= len(seen) else min(when, max(1, len(steps)))
        slider = gr.update(maximum=max(2, len(steps)), value=place, visible=len(steps) > 1) if new else gr.skip()
        return [
            ctx.render("train_status", found=found),
            *[gr.update(visible=each) for each in able.values()],
            gr.update(visible=found.mine and state == "queued"),
            steps if new else gr.skip(),
            slider,
            self._strip(ctx, found, place) if new else gr.skip(),
            drawn,
            gr.update(visible=bool(table)),
            table,
        ]

    def _strip(self, ctx: Context, found: Any, place: int) -> str:
        film = [
            {"step": each.step, "pictures": [ctx.file(path) for path in each.pictures], "now": number == place}
            for number, each in enumerate(found.previews, start=1)
        ]
        return ctx.render("train_film", film=film, now=film[place - 1] if film else None)

    def _bind(self, ctx: Context, up: gr.Button, down: gr.Button) -> None:
        target = gr.Textbox(visible="hidden", container=False)
        given = [self.id, self.seen, self.when]
        quiet = {"show_progress": "hidden"}

        def refresh(id: str, seen: list[int], when: int, request: gr.Request) -> list[Any]:
            return self.shown(ctx, request, id, seen, when) if id else [gr.skip()] * len(self.outputs)

        def doing(action: str, **more: Any) -> Any:
            def do(id: str, seen: list[int], when: int, request: gr.Request) -> list[Any]:
                ctx.act(request, action, id=id, **more)
                return self.shown(ctx, request, id, seen, when)

            return do

        def look(id: str, when: int, request: gr.Request) -> str:
            return self._strip(ctx, ctx.act(request, "train.watch", id=id), when)

        def keep(id: str, request: gr.Request) -> str:
            return str(ctx.act(request, "train.keep", id=id).id)

        for event in (self.id.change, gr.Timer(2).tick):
            ctx.on(event, refresh, given, self.outputs, **quiet)
        for name in ("pause", "resume", "stop"):
            ctx.on(self.buttons[name].click, doing(f"jobs.{name}"), given, self.outputs, **quiet)
        ctx.on(up.click, doing("jobs.move", direction="up"), given, self.outputs, **quiet)
        ctx.on(down.click, doing("jobs.move", direction="down"), given, self.outputs, **quiet)
        ctx.on(self.when.input, look, [self.id, self.when], self.strip, trigger_mode="always_last", **quiet)
        kept = ctx.on(self.buttons["keep"].click, keep, self.id, target, **quiet)
        kept.success(None, target, None, js=OPEN.replace("ROOT", ctx.root), api_visibility="private")
