"""Edits of many captions: shown first, then done; and captions for the pictures that have none."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["CaptionEdits"]

_EDITS = ("prepend", "append", "replace", "remove", "trigger", "normalise")
_CAPTIONERS = ("filename", "folder", "palette")


@dataclass(frozen=True, kw_only=True)
class CaptionEdits:
    """The form. `only` holds the pictures that are meant, none for all; `promised` the edits that are shown."""

    group: gr.Column
    only: gr.Dropdown
    kind: gr.Dropdown
    text: gr.Textbox
    by: gr.Textbox
    words: gr.Checkbox
    inside: gr.Checkbox
    preview: gr.Button
    table: gr.HTML
    apply: gr.Button
    promised: gr.State
    captioner: gr.Dropdown
    suggest: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "CaptionEdits":
        t = ctx.t
        edits = ctx.needs("datasets.edit_captions")
        with gr.Column(visible=False, elem_classes=edits) as group, gr.Accordion(t("datasets.many"), open=False):
            only = gr.Dropdown([], multiselect=True, label=t("datasets.only"), info=t("datasets.only_info"))
            kinds = [(t(f"datasets.edit_{each}"), each) for each in _EDITS]
            kind = gr.Dropdown(kinds, value=_EDITS[0], label=t("datasets.edit"), filterable=False)
            with gr.Row():
                text = gr.Textbox(label=t("datasets.text"), max_length=1000)
                by = gr.Textbox(label=t("datasets.by_text"), max_length=1000, visible=False)
            words = gr.Checkbox(label=t("datasets.words"), visible=False)
            inside = gr.Checkbox(label=t("datasets.inside"), visible=False)
            preview = gr.Button(t("datasets.preview"))
            table = gr.HTML()
            apply = gr.Button(t("datasets.apply_none"), variant="primary", interactive=False)
            froms = [(t(f"datasets.from_{each}"), each) for each in _CAPTIONERS]
            captioner = gr.Dropdown(froms, value="filename", label=t("datasets.suggest_from"), filterable=False)
            suggest = gr.Button(t("datasets.suggest"))
        form = cls(
            group=group, only=only, kind=kind, text=text, by=by, words=words, inside=inside, preview=preview,
            table=table, apply=apply, promised=gr.State([]), captioner=captioner, suggest=suggest,
        )  # fmt: skip
        form._bind(ctx)
        return form

    @property
    def preview_of(self) -> list[Any]:
        return [self.table, self.apply, self.promised]

    @property
    def inputs(self) -> list[Any]:
        return [self.only, self.kind, self.text, self.by, self.words, self.inside]

    def arguments(self, only: list[str], kind: str, text: str, by: str, words: bool, inside: bool) -> dict[str, Any]:
        """Return what the form says as arguments of datasets.edit_captions."""
        options: dict[str, dict[str, Any]] = {
            "replace": {"old": text, "new": by, "whole_words": words},
            "remove": {"text": text, "inside": inside},
            "trigger": {"trigger": text},
            "normalise": {},
        }
        return {"edits": [{"do": kind, **options.get(kind, {"text": text})}], "files": only or None}

    def _bind(self, ctx: Context) -> None:
        def fields(kind: str) -> list[Any]:
            shown = [kind != "normalise", kind == "replace", kind == "replace", kind == "remove"]
            return [gr.update(visible=each) for each in shown]

        def stale() -> list[Any]:
            return ["", gr.update(interactive=False, value=ctx.t("datasets.apply_none")), []]

        ctx.on(
            self.kind.change, fields, self.kind, [self.text, self.by, self.words, self.inside], show_progress="hidden"
        )
        for each in self.inputs:  # what is done is what was shown
            ctx.on(each.change, stale, None, self.preview_of, show_progress="hidden")
