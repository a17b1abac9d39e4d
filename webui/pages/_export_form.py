"""What Export asks for: which style, where it goes, who may read what stands inside, and a data sheet."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from webui.actions.export import TARGETS
from webui.context import Context
from webui.pages._export_words import notice_of, weights_of
from webui.users import allows

__all__ = ["Form"]

PRECISIONS = ("fp16", "bf16", "fp32")
PRIVACY = ("public", "team", "private")


@dataclass(frozen=True, kw_only=True)
class Form:
    ref: gr.Dropdown
    notice: gr.HTML
    target: gr.Radio
    experts: gr.Accordion
    precision: gr.Radio
    privacy: gr.Radio
    withheld: gr.HTML
    carding: gr.Group
    card: gr.Checkbox
    licence: gr.Textbox
    low: gr.Number
    high: gr.Number
    go: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Form":
        t = ctx.t
        ref = gr.Dropdown(label=t("export.style"), choices=[], value=None, elem_id="style")
        notice = gr.HTML(elem_id="notice")
        with gr.Column(elem_classes=ctx.needs("export.write")):
            targets = [(t(f"export.to_{each}"), each) for each in TARGETS]
            target = gr.Radio(targets, value="comfyui", label=t("export.target"))
            profiles = [(t(f"export.{each}"), each) for each in PRIVACY]
            privacy = gr.Radio(profiles, value="team", label=t("export.privacy"))
            withheld = gr.HTML(elem_id="withheld")
            with gr.Group() as carding:
                card = gr.Checkbox(label=t("export.card"), info=t("export.card_info"), value=True)
                licence = gr.Textbox(label=t("export.licence"), max_length=200)
                with gr.Row():
                    low = gr.Number(label=t("export.weight_low"), minimum=-200, maximum=200)
                    high = gr.Number(label=t("export.weight_high"), minimum=-200, maximum=200)
            with gr.Accordion(t("common.experts"), open=False) as experts:
                precisions = [(t(f"export.{each}"), each) for each in PRECISIONS]
                precision = gr.Radio(
                    precisions, value="fp16", label=t("export.precision"), info=t("export.precision_info")
                )
            go = gr.Button(t("export.go"), variant="primary", elem_id="export", interactive=False)
        return cls(
            ref=ref, notice=notice, target=target, experts=experts, precision=precision, privacy=privacy,
            withheld=withheld, carding=carding, card=card, licence=licence, low=low, high=high, go=go,
        )  # fmt: skip

    @property
    def chosen(self) -> list[Any]:
        """What `picked` reads."""
        return [self.ref, self.target, self.privacy]

    @property
    def about(self) -> list[Any]:
        """What `picked` shows."""
        return [self.notice, self.go, self.licence, self.low, self.high]

    @property
    def asked(self) -> list[Any]:
        """What decides an export, as `wanted` reads it."""
        return [*self.chosen, self.precision, self.card, self.licence, self.low, self.high]

    def wanted(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return what the fields hold as `export.write` takes it."""
        ref, target, privacy, precision, card, said, low, high = values
        given = {"weight_low": low, "weight_high": high}
        weights = {key: "" if each is None else each / 100 for key, each in given.items()}
        names = {"target": target, "precision": precision, "privacy": privacy}
        return {"ref": ref or "", **names, "card": card, "licence": said or "", **weights}

    def picked(
        self, ctx: Context, request: gr.Request, asked: str | None, target: str, privacy: str
    ) -> tuple[Any, ...]:
        """Return what is shown of a style before anything is written."""
        if not asked:
            return "", gr.update(interactive=False), "", None, None
        version = ctx.act(request, "library.show", ref=asked)
        may = ctx.act(request, "export.allowed", ref=asked, target=target, privacy=privacy)
        begin = gr.update(interactive=may)
        return notice_of(ctx, version, may=may), begin, version.details.licence, *weights_of(version)

    def bind(self, ctx: Context) -> None:
        """Let a choice show what it means: who may, what fits the target, what would be left out."""

        def pick(asked: str | None, target: str, privacy: str, request: gr.Request) -> tuple[Any, ...]:
            return self.picked(ctx, request, asked, target, privacy)

        def aim(asked: str | None, target: str, privacy: str, request: gr.Request) -> tuple[Any, ...]:
            shown = gr.update(visible=target != "archive")
            if not asked:  # before the page has loaded its styles; what loads them sees to the button
                return shown, shown, gr.update()
            may = ctx.act(request, "export.allowed", ref=asked, target=target, privacy=privacy)
            return shown, shown, gr.update(interactive=may)

        def guard(asked: str | None, target: str, privacy: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
            """Both at once: a second handler of one event would wait until the first has read the file."""
            buttons = aim(asked, target, privacy, request)
            for shown in _left_out(ctx, request, asked, privacy):
                yield *buttons, shown

        fitting = [self.experts, self.carding, self.go]
        quiet = {"show_progress": "hidden"}
        ctx.on(self.ref.input, pick, self.chosen, self.about, **quiet)
        ctx.on(self.target.change, aim, self.chosen, fitting, **quiet)
        # One event for both choices: of two that run beside each other the older may answer last.
        chosen = partial(gr.on, [self.ref.change, self.privacy.change])
        outputs = [*fitting, self.withheld]
        ctx.on(chosen, guard, self.chosen, outputs, concurrency_limit=2, trigger_mode="always_last", **quiet)


def _left_out(ctx: Context, request: gr.Request, asked: str | None, privacy: str) -> Iterator[str]:
    """Say what would be left out, before anything is written; reading the file takes a second or two."""
    if not asked or not allows(ctx.user(request), "creator"):
        yield ""
        return
    yield ctx.render("note", text=ctx.t("export.looking"))
    rows = ctx.act(request, "export.preview", ref=asked, privacy=privacy)
    yield ctx.render("export_withheld", rows=rows, privacy=privacy)
