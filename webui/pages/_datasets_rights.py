"""Who allows the use of the pictures: stated for all, for some, or for the one that is shown."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["RightsForm"]

_FIELDS = ("owner", "licence", "source", "consent", "expires")


@dataclass(frozen=True, kw_only=True)
class RightsForm:
    group: gr.Column
    fields: list[gr.Textbox]
    scope: gr.Radio
    save: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "RightsForm":
        t = ctx.t
        states = ctx.needs("datasets.rights")
        with gr.Column(visible=False, elem_classes=states) as group, gr.Accordion(t("datasets.rights"), open=False):
            gr.HTML(ctx.render("datasets_hint", text=t("datasets.rights_info")))
            with gr.Row():
                fields = [
                    gr.Textbox(
                        label=t(f"datasets.{name}"),
                        placeholder=t("datasets.day_format") if name == "expires" else None,
                        max_length=1000,
                        min_width=200,
                    )
                    for name in _FIELDS
                ]
            scopes = [(t(f"datasets.scope_{each}"), each) for each in ("all", "shown", "only")]
            scope = gr.Radio(scopes, value="all", label=t("datasets.rights_scope"))
            save = gr.Button(t("datasets.rights_save"), variant="primary")
        return cls(group=group, fields=fields, scope=scope, save=save)

    def arguments(self, scope: str, shown: str, only: list[str], values: tuple[str, ...]) -> dict[str, Any]:
        """Return what the form says as arguments of datasets.rights; what is empty stays as it is."""
        files = {"all": None, "shown": [shown] if shown else [], "only": only}[scope]
        return {"files": files, **{name: value for name, value in zip(_FIELDS, values, strict=True) if value.strip()}}
