"""Where a style comes from and where it went, and taking a picture back that may no longer be used."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._library_words import Show

__all__ = ["Origin"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    told: gr.HTML
    taking: gr.Column
    image: gr.Dropdown
    why: gr.Textbox
    sure: gr.Checkbox
    withdraw: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Origin":
        t = ctx.t
        told = gr.HTML()
        with gr.Column(elem_classes=ctx.needs("library.withdraw")) as taking:
            image = gr.Dropdown(label=t("library.image"), info=t("library.image_info"), choices=[])
            why = gr.Textbox(label=t("library.reason"), max_length=2000)
            sure = gr.Checkbox(label=t("library.withdraw_sure"), value=False)
            withdraw = gr.Button(t("library.withdraw"), variant="stop")
        return cls(told=told, taking=taking, image=image, why=why, sure=sure, withdraw=withdraw)

    @property
    def outputs(self) -> list[Any]:
        return [self.told, self.taking, self.image]

    def shown(self, ctx: Context, request: gr.Request, version: Any) -> list[Any]:
        """Return what `outputs` become for a version."""
        found = ctx.act(request, "library.origin", ref=version.ref)
        uses = ctx.act(request, "library.where_used", ref=version.ref)
        pictures = [(sha256, file, ctx.file(path) if path else "") for sha256, file, path in found.pictures]
        choices = [(file, sha256) for sha256, file, _ in pictures]
        return [
            ctx.render("library_origin", origin=found, pictures=pictures, uses=uses),
            gr.update(visible=bool(choices)),
            gr.update(choices=choices, value=None),
        ]

    def bind(self, ctx: Context, ref: gr.State, show: Show, outputs: list[Any]) -> None:
        """Let a picture be withdrawn by who says why and means it; `show` shows a version on `outputs`."""

        def take_back(name: str, sha256: str | None, said: str, meant: bool, request: gr.Request) -> list[Any]:
            if not (sha256 and meant and said):
                gr.Warning(ctx.t("library.withdraw_needs"))
                return [gr.skip()] * len(changing)
            found = ctx.act(request, "library.withdraw", sha256=sha256, reason=said)
            touched = len(found.versions) + len(found.descendants)
            gr.Warning(ctx.t("library.withdrawn", styles=touched, pictures=len(found.pictures)))
            return [*show(name, request), "", False]  # the next picture needs a reason and a tick of its own

        changing = [*outputs, self.why, self.sure]
        ctx.on(self.withdraw.click, take_back, [ref, self.image, self.why, self.sure], changing)
