"""One style: samples, facts, versions, where it comes from, what was said, and what may be changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._library_form import Description
from webui.pages._library_origin import Origin
from webui.pages._library_versions import Versions
from webui.pages._library_words import facts_of

__all__ = ["Detail"]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """`parts` are the tabs, each with what it shows of a version; `description` is one to write in."""

    ref: gr.State
    about: gr.HTML
    draw: gr.Button
    submit: gr.Button
    status: gr.HTML
    description: Description
    parts: list[Any]
    talk: gr.HTML
    text: gr.Textbox
    say: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Detail":
        t, describes = ctx.t, ctx.needs("library.describe")
        ref, about = gr.State(""), gr.HTML()
        with gr.Row():
            draw = gr.Button(t("library.draw_samples"), elem_classes=ctx.needs("library.draw_samples"))
            submit = gr.Button(t("library.submit"), variant="primary", elem_classes=ctx.needs("library.submit"))
            status = gr.HTML()  # beside the buttons: a line of its own pushed the tabs from under the pointer
        with gr.Tabs():
            with gr.Tab(t("library.versions")):
                versions = Versions.build(ctx)
            with gr.Tab(t("library.describe"), elem_id=f"describe-{describes}"):
                description = Description.build(ctx)
            with gr.Tab(t("library.origin")):
                origin = Origin.build(ctx)
            with gr.Tab(t("library.talk")):
                talk = gr.HTML()
                with gr.Column(elem_classes=ctx.needs("library.comment")):
                    text = gr.Textbox(label=t("library.comment"), max_length=2000)
                    say = gr.Button(t("library.say"))
        made = cls(
            ref=ref, about=about, draw=draw, submit=submit, status=status, description=description,
            parts=[versions, origin], talk=talk, text=text, say=say,
        )  # fmt: skip
        made._bind(ctx)
        return made

    @property
    def outputs(self) -> list[Any]:
        return [*self.changing, *self.description.outputs]

    @property
    def changing(self) -> list[Any]:
        """What a step such as handing in changes; what somebody is writing meanwhile is not among it."""
        shown = [each for part in self.parts for each in part.outputs]
        return [self.ref, self.about, self.submit, *shown, self.talk]

    def shown(self, ctx: Context, request: gr.Request, version: Any) -> list[Any]:
        """Return what `outputs` become for a version."""
        return [*self.changed(ctx, request, version), *self.description.shown(ctx, request, version)]

    def changed(self, ctx: Context, request: gr.Request, version: Any) -> list[Any]:
        """Return what `changing` becomes for a version."""
        return [
            version.ref,
            _told(ctx, request, version),
            gr.update(visible=version.stage == "draft" and not version.blocked),
            *[each for part in self.parts for each in part.shown(ctx, request, version)],
            _talk(ctx, request, version.ref),
        ]

    def _bind(self, ctx: Context) -> None:
        def show(name: str, request: gr.Request) -> list[Any]:
            return self.changed(ctx, request, ctx.act(request, "library.show", ref=name))

        def submit(name: str, request: gr.Request) -> list[Any]:
            ctx.act(request, "library.submit", ref=name)
            gr.Info(ctx.t("library.submitted"))
            return show(name, request)

        def comment(name: str, said: str, request: gr.Request) -> tuple[str, str]:
            ctx.act(request, "library.comment", ref=name, text=said or "")
            return _talk(ctx, request, name), ""

        def tell(name: str, request: gr.Request) -> str:
            return _told(ctx, request, ctx.act(request, "library.show", ref=name))

        def sample(name: str, request: gr.Request) -> Iterator[str]:
            yield ctx.render("create_status", text=ctx.t("create.begins"), part=0)
            for event in ctx.act(request, "library.draw_samples", ref=name):
                if event["event"] == "failed":
                    yield ctx.render("problem", text=event["reason"], hint=event["hint"])
                    return
                yield ctx.render("create_status", text=ctx.t("create.drawing"), part=event.get("part", 0))
            yield ""

        quiet = {"show_progress": "hidden"}
        for part in [self.description, *self.parts]:
            part.bind(ctx, self.ref, show, self.changing)
        ctx.on(self.submit.click, submit, self.ref, self.changing)
        ctx.on(self.say.click, comment, [self.ref, self.text], [self.talk, self.text])
        drawn = ctx.on(self.draw.click, sample, self.ref, self.status, **quiet)
        ctx.on(drawn.then, tell, self.ref, self.about, **quiet)  # somebody may be describing the style by now


def _told(ctx: Context, request: gr.Request, version: Any) -> str:
    samples = [(each, ctx.file(each.path)) for each in ctx.act(request, "library.samples", ref=version.ref)]
    return ctx.render("library_detail", version=version, samples=samples, facts=facts_of(ctx, version))


def _talk(ctx: Context, request: gr.Request, ref: str) -> str:
    return ctx.render("library_talk", comments=ctx.act(request, "library.comments", ref=ref))
