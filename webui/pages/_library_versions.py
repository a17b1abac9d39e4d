"""The versions of a style: which there are, how two differ, at which stage one is, and which is offered."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._library_words import Show

__all__ = ["Versions"]

NEXT = {
    "draft": ("in_review",),
    "in_review": ("approved", "draft"),
    "approved": ("retired", "in_review"),
    "retired": ("approved", "draft"),
}
"""Stages that may follow one, as the library has it."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    timeline: gr.HTML
    comparing: gr.Column
    other: gr.Dropdown
    compare: gr.Button
    difference: gr.HTML
    moving: gr.Column
    stage: gr.Dropdown
    reason: gr.Textbox
    move: gr.Button
    back: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Versions":
        t = ctx.t
        timeline = gr.HTML()
        with gr.Column(visible=False) as comparing:
            other = gr.Dropdown(label=t("library.compare_with"), choices=[])
            compare = gr.Button(t("library.compare"))
            difference = gr.HTML()
        with gr.Column(visible=False, elem_classes=ctx.needs("library.promote")) as moving:
            with gr.Row():
                stage = gr.Dropdown(label=t("library.stage"), choices=[])
                reason = gr.Textbox(label=t("library.reason"), max_length=2000)
            with gr.Row():
                move, back = gr.Button(t("library.move")), gr.Button(t("library.rollback"))
        return cls(
            timeline=timeline, comparing=comparing, other=other, compare=compare, difference=difference,
            moving=moving, stage=stage, reason=reason, move=move, back=back,
        )  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        return [self.timeline, self.comparing, self.other, self.difference, self.moving, self.stage, self.back]

    def shown(self, ctx: Context, request: gr.Request, version: Any) -> list[Any]:
        """Return what `outputs` become for a version."""
        versions = ctx.act(request, "library.list", name=version.name, every=True)
        others = [(f"v{each.number}", each.ref) for each in versions if each.ref != version.ref]
        stages = [(ctx.t(f"common.{each}"), each) for each in NEXT[version.stage]]
        return [
            ctx.render("library_versions", versions=versions, now=version.ref),
            gr.update(visible=bool(others)),
            gr.update(choices=others, value=others[0][1] if others else None),
            "",
            gr.update(visible=version.stage != "draft"),  # which is handed in
            gr.update(choices=stages, value=stages[0][1]),
            gr.update(visible=version.stage == "approved" and not version.current and not version.blocked),
        ]

    def bind(self, ctx: Context, ref: gr.State, show: Show, outputs: list[Any]) -> None:
        """Let versions be compared, and one be moved to a stage or offered; `show` shows a version on `outputs`."""

        def differ(name: str, second: str, request: gr.Request) -> str:
            found = ctx.act(request, "library.compare", first=name, second=second)
            pairs = [
                tuple((ctx.file(one.path), one.prompt) if one else ("", "") for one in pair) for pair in found.samples
            ]
            return ctx.render("library_compare", found=found, pairs=pairs)

        def promote(name: str, stage: str, said: str, request: gr.Request) -> list[Any]:
            ctx.act(request, "library.promote", ref=name, stage=stage, reason=said or "")
            return [*show(name, request), ""]

        def roll(name: str, said: str, request: gr.Request) -> list[Any]:
            style, _, number = name.rpartition("@")
            ctx.act(request, "library.rollback", name=style, number=int(number), reason=said or "")
            return [*show(name, request), ""]

        ctx.on(self.compare.click, differ, [ref, self.other], self.difference)
        changing = [*outputs, self.reason]
        ctx.on(self.move.click, promote, [ref, self.stage, self.reason], changing)
        ctx.on(self.back.click, roll, [ref, self.reason], changing)
