"""What people say about a style: how it is called up, how strong it works, whose it is."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._library_words import Show, changes_of

__all__ = ["Description"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """`fields` are in the order in which `changes_of` reads them; `before` is what they held when they were shown."""

    fields: list[Any]
    before: gr.State
    save: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "Description":
        t = ctx.t
        trigger = gr.Textbox(label=t("library.trigger"), max_length=200)
        with gr.Row():
            weights = [
                gr.Number(label=t(f"library.{each}"), minimum=-200, maximum=200)
                for each in ("weight", "weight_low", "weight_high")
            ]
        tags = gr.Textbox(label=t("library.tags"), info=t("library.tags_info"), max_length=2000)
        with gr.Row():
            licence = gr.Textbox(label=t("library.licence"), max_length=200)
            expires = gr.Textbox(label=t("library.expires"), placeholder="2027-12-31", max_length=10)
            owner = gr.Textbox(label=t("library.owner"), max_length=200)
        notes = gr.Textbox(label=t("library.notes"), lines=3, max_length=10_000)
        save = gr.Button(t("library.save"), variant="primary")
        fields = [trigger, *weights, tags, licence, expires, owner, notes]
        return cls(fields=fields, before=gr.State([None] * len(fields)), save=save)

    @property
    def outputs(self) -> list[Any]:
        return [*self.fields, self.before]

    def shown(self, ctx: Context, request: gr.Request, version: Any) -> list[Any]:
        """Return what `outputs` become for a version; weights are per cent here."""
        details = version.details
        weights = (details.weight, details.weight_low, details.weight_high)
        said = [details.licence, details.expires, details.owner, details.notes]
        percent = [None if each is None else 100 * each for each in weights]
        shown = [details.trigger, *percent, ", ".join(details.tags), *said]
        return [*shown, shown]

    def bind(self, ctx: Context, ref: gr.State, show: Show, outputs: list[Any]) -> None:
        """Let what was written be kept; `show` shows a version on `outputs`."""

        def keep(request: gr.Request, name: str, before: list[Any], *values: Any) -> list[Any]:
            if changes := changes_of(before, values):
                ctx.act(request, "library.describe", ref=name, **changes)
            gr.Info(ctx.t("library.saved"))
            now = self.shown(ctx, request, ctx.act(request, "library.show", ref=name))
            return [*show(name, request), *now]

        ctx.on(self.save.click, keep, [ref, self.before, *self.fields], [*outputs, *self.outputs])
