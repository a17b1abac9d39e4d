"""One picture of a set: which one, what was found on it, its caption, whether it is left out."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._datasets_view import picture

__all__ = ["NOTHING", "Held", "PicturePanel", "beside"]

Held = tuple[str, str]
NOTHING: Held = ("", "")
"""No picture is shown."""


@dataclass(frozen=True, kw_only=True)
class PicturePanel:
    """The panel beside the grid. `picker` holds the name of the picture that is shown.

    `held` is that name with the caption as it was read: what is typed belongs to it, whatever the picker says by then.
    `written` is another value after each caption that was written on the way to another picture.
    """

    group: gr.Column
    tools: gr.Column
    picker: gr.Dropdown
    previous: gr.Button
    next: gr.Button
    shown: gr.HTML
    held: gr.State
    written: gr.State
    caption: gr.Textbox
    save: gr.Button
    leave: gr.Button
    take: gr.Button

    @classmethod
    def build(cls, ctx: Context) -> "PicturePanel":
        t = ctx.t
        with gr.Column(scale=2, min_width=300, visible=False, elem_id="picture-panel") as group:
            picker = gr.Dropdown([], label=t("datasets.picture"))
            with gr.Row():
                previous = gr.Button(f"← {t('datasets.previous')}", size="sm", min_width=100)
                after = gr.Button(f"{t('datasets.next')} →", size="sm", min_width=100)
            shown, held, written = gr.HTML(), gr.State(NOTHING), gr.State(0)
            with gr.Column(visible=False, elem_classes=ctx.needs("datasets.caption")) as tools:
                caption = gr.Textbox(
                    label=t("datasets.caption"), info=t("datasets.caption_info"), lines=3, max_length=8000
                )
                save = gr.Button(t("datasets.save_caption"), variant="primary")
                leave = gr.Button(t("datasets.leave_out"), visible=False)
                take = gr.Button(t("datasets.take_in"), visible=False)
        return cls(
            group=group, tools=tools, picker=picker, previous=previous, next=after, shown=shown,
            held=held, written=written, caption=caption, save=save, leave=leave, take=take,
        )  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        return [self.group, self.picker, self.shown, self.held, self.caption, self.leave, self.take]

    def updates(self, ctx: Context, view: Any, file: str) -> list[Any]:
        """Return what `outputs` become for a picture of a set; the first one where that is not there."""
        rows = {row.file: row for row in view.pictures}
        if not rows:
            gone = [gr.update(visible=False), gr.update(choices=[], value=None)]
            return [*gone, "", NOTHING, "", gr.update(), gr.update()]
        row = rows.get(file) or view.pictures[0]
        return [
            gr.update(visible=True),
            gr.update(choices=list(rows), value=row.file),
            picture(ctx, row),
            (row.file, row.caption),
            row.caption,
            gr.update(visible=not row.excluded),
            gr.update(visible=row.excluded),
        ]


def beside(view: Any, file: str | None, step: int) -> str:
    """Return the picture before or after one, in a ring."""
    files = [row.file for row in view.pictures]
    if not files:
        return ""
    return str(files[(files.index(file) + step) % len(files)]) if file in files else str(files[0])
