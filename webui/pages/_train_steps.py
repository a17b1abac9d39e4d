"""Which step of an ended training: have them compared, and put another one into the library."""

from typing import Any

import gradio as gr

from webui.actions.steps import Steps
from webui.context import Context
from webui.errors import StudioError
from webui.pages._review_words import percent_of, value_of

__all__ = ["choose_step", "table_of"]


def choose_step(ctx: Context, id: gr.State) -> None:
    """Lay out the choice for the training of `id`; it shows nothing where there is none."""
    t, shown = ctx.t, gr.State([])
    with gr.Column(visible=False, elem_id="steps") as all_:
        table, doing = gr.HTML(), gr.HTML()
        compare = gr.Button(t("steps.compare"), elem_classes=ctx.needs("steps.compare"), elem_id="compare-steps")
        with gr.Row(visible=False, elem_classes=ctx.needs("steps.take")) as taking:
            step = gr.Dropdown([], label=t("steps.choose"), info=t("steps.choose_info"))
            take = gr.Button(t("steps.take"), elem_id="take-step")
        taken = gr.HTML()
    outputs = [all_, shown, table, doing, compare, taking, step]

    def look(id: str, before: list[Any], request: gr.Request) -> list[Any]:
        try:
            found = ctx.act(request, "steps.show", id=id) if id else None
        except StudioError:  # the status above tells why
            found = None
        if found is None or not found.kept:
            return [gr.update(visible=False), *[gr.skip()] * (len(outputs) - 1)]
        busy = found.measuring is not None and found.measuring.state not in ("failed", "stopped")
        now = [id, *found.kept, len(found.compared), busy]
        again = "steps.compare_again" if found.compared else "steps.compare"
        same = now == before
        return [
            gr.update(visible=True),
            now,
            gr.skip() if same else table_of(ctx, found),
            ctx.render("review_measuring", row=found.measuring),
            gr.skip() if same else gr.update(visible=found.mine and not busy, value=t(again)),
            gr.skip() if same else gr.update(visible=found.mine),
            gr.skip() if same else _choices(ctx, found),
        ]

    def begin(id: str, request: gr.Request) -> str:
        return ctx.render("review_measuring", row=ctx.act(request, "steps.compare", id=id))

    def put(id: str, number: int, request: gr.Request) -> str:
        return ctx.render("train_taken", step=number, ref=ctx.act(request, "steps.take", id=id, step=number))

    for event in (id.change, gr.Timer(3).tick):
        ctx.on(event, look, [id, shown], outputs, show_progress="hidden")
    ctx.on(compare.click, begin, id, doing)
    ctx.on(take.click, put, [id, step], taken)


def _choices(ctx: Context, found: Steps) -> Any:
    """Offer the recommended step first, unless it is the result, which lies in the library already."""
    value = found.best if found.best in found.kept else found.kept[-1]
    return gr.update(choices=[(ctx.t("steps.option", n=ctx.t.number(each)), each) for each in found.kept], value=value)


def table_of(ctx: Context, found: Steps) -> str:
    """Return the steps with what was found of each, as HTML."""
    t = ctx.t
    figures = found.compared[0].figures if found.compared else ()
    losses = any(each.validation_loss is not None for each in found.compared)
    weight = next((each.best for each in found.compared if each.number == found.best and each.best), 1.0)
    rows = []
    for each in found.compared:
        loss = "–" if each.validation_loss is None else t.number(each.validation_loss, 4)
        rows.append((each.number, [*(value_of(ctx, one) for one in each.figures), *([loss] if losses else [])]))
    return ctx.render(
        "train_steps",
        kept=", ".join(t.number(each) for each in found.kept),
        heads=[*(t(f"review.{each.name}") for each in figures), *([t("steps.loss")] if losses else [])],
        rows=rows,
        best=found.best,
        strength=percent_of(ctx, weight),
        page=ctx.file(found.page, name="steps.html") if found.page else "",
    )
