"""Blend: mix up to eight styles with sliders, see it at once, and freeze what is good."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.components import banner, heading
from webui.context import Context
from webui.pages import _blend_freeze
from webui.pages._blend_rows import BlendRows

__all__ = ["NAME", "build"]

NAME = "blend"
QUICK, FULL = 8, 20
"""Steps of the picture that follows the sliders, and of one that is asked for."""

SLOTS = ("A", "B", "C")
GRID = (("style", "50, 75, 100"), ("second_style", "50, 75, 100"))


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("blend.title"), t("blend.intro"))
    banner(ctx, page)
    with gr.Row():
        with gr.Column(scale=6, min_width=300):
            rows = BlendRows.build(ctx)
            with gr.Row():
                keeps = {slot: gr.Button(t("blend.keep_slot", slot=slot), size="sm") for slot in SLOTS}
                recalls = {slot: gr.Button(t("blend.use_slot", slot=slot), size="sm") for slot in SLOTS}
            dropped = gr.File(label=t("blend.recipe"), file_types=[".json"], type="filepath", height=110)
        with gr.Column(scale=5, min_width=300):
            prompt = gr.Textbox(label=t("create.prompt"), value="a rocket icon", max_length=4000)
            before = gr.State([])
            seed = gr.Number(label=t("create.seed"), value=7, precision=0, minimum=0, maximum=2**53)
            live = gr.Checkbox(label=t("blend.live"), value=True)
            with gr.Row():
                go = gr.Button(t("blend.go"), variant="primary", elem_id="mix")
                grid = gr.Button(t("blend.grid"), elem_id="weight-grid")
            status, picture = gr.HTML(), gr.HTML(elem_id="mixed")
    with gr.Row():
        with gr.Column(min_width=300):
            gr.HTML(ctx.render("section", title=t("blend.conflict"), text=t("blend.conflict_info")))
            compare = gr.Button(t("blend.conflict_go"))
            meter = gr.HTML(elem_id="meter")
        with gr.Column(min_width=300):
            gr.HTML(ctx.render("section", title=t("blend.freeze_title"), text=t("blend.freeze_info")))
            _blend_freeze.build(ctx, page, rows.inputs, lambda values: rows.mix(values[0], values[1:]))

    def settings(said: str, number: float, values: tuple[Any, ...], steps: int) -> dict[str, Any]:
        return {"prompt": said, "seed": int(number or 0), "styles": rows.mix(values[0], values[1:]), "steps": steps}

    def draw(request: gr.Request, events: Iterator[Any], said: str) -> Iterator[tuple[Any, Any]]:
        yield ctx.render("create_status", text=t("create.begins"), part=0), gr.update()
        for event in events:
            if event.event == "step":
                text = t("create.step", done=event.done, total=event.total)
                yield ctx.render("create_status", text=text, part=event.done / event.total), gr.update()
            elif event.event == "picture" and event.picture:
                yield "", ctx.render("blend_picture", src=ctx.file(event.picture.path), prompt=said)
            elif event.event == "picture":
                yield "", ctx.render("create_live", jpeg=event.preview)
            elif event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), gr.update()

    def mixed(request: gr.Request, said: str, number: float, *values: Any) -> Iterator[tuple[Any, Any]]:
        wanted = settings(said, number, values, FULL)
        yield from draw(request, ctx.act(request, "pictures.draw", settings=wanted), said)

    def follow(request: gr.Request, on: bool, said: str, number: float, *values: Any) -> Iterator[tuple[Any, Any]]:
        if on and values[0]:
            wanted = settings(said, number, values, QUICK)
            yield from draw(request, ctx.act(request, "pictures.sketch", settings=wanted), said)

    def weights(request: gr.Request, said: str, number: float, *values: Any) -> Iterator[tuple[Any, Any]]:
        axes = [{"by": by, "values": text.split(", ")} for by, text in GRID[: min(2, len(values[0] or [])) or 1]]
        yield ctx.render("create_status", text=t("create.begins"), part=0), gr.update()
        for event in ctx.act(request, "series.grid", settings=settings(said, number, values, FULL), axes=axes):
            if event.event == "sheet":
                yield "", ctx.render("create_sheet", src=ctx.file(event.sheet), axes=axes)
            elif event.event == "failed":
                yield ctx.render("problem", text=event.reason, hint=event.hint), gr.update()
            else:
                yield ctx.render("create_status", text=t("create.drawing"), part=event.part), gr.update()

    def meet(request: gr.Request, *values: Any) -> Iterator[str]:
        yield ctx.render("create_status", text=t("blend.comparing"), part=0.3)
        yield ctx.render(
            "blend_meter", meetings=ctx.act(request, "blend.conflict", styles=rows.mix(values[0], values[1:]))
        )

    def show(refs: list[str], request: gr.Request) -> list[Any]:
        return rows.shown(ctx, request, refs)

    def pick(said: str, known: list[str], refs: list[str], request: gr.Request) -> tuple[str, list[str]]:
        return ctx.act(request, "pictures.with_styles", prompt=said, before=known, refs=refs or []), refs or []

    def chosen(request: gr.Request, said: str, known: list[str], styles: list[dict[str, Any]]) -> list[Any]:
        """Fill in a mix that has no prompt of its own: its styles count as picked by hand."""
        picker, *fields = rows.filled(ctx, request, styles)
        return [*pick(said, known, picker["value"], request), picker, *fields]

    def arrive(said: str, request: gr.Request) -> list[Any]:
        if ctx.user(request).role != "viewer":
            ctx.act(request, "pictures.warm")
        asked = dict(request.query_params)
        if not asked.get("from"):
            return chosen(request, said, [], ctx.act(request, "blend.suggest"))
        found = ctx.act(request, "pictures.reuse", id=asked["from"])
        picker, *fields = rows.filled(ctx, request, found["styles"])
        return [found.get("prompt") or gr.update(), picker["value"], picker, *fields]

    def keeping(slot: str) -> Any:
        def keep(request: gr.Request, *values: Any) -> None:
            ctx.act(request, "blend.remember", slot=slot, styles=rows.mix(values[0], values[1:]))
            gr.Info(t("blend.kept", slot=slot))

        return keep

    def recalling(slot: str) -> Any:
        def recall(said: str, known: list[str], request: gr.Request) -> list[Any]:
            return chosen(request, said, known, [dict(each) for each in ctx.act(request, "blend.recall", slot=slot)])

        return recall

    def opened(path: str | None, said: str, known: list[str], request: gr.Request) -> list[Any]:
        found = ctx.act(request, "blend.open_recipe", upload=path) if path else None
        return chosen(request, said, known, [dict(each) for each in found.styles] if found else [])

    quiet = {"show_progress": "hidden"}
    outputs, said = [status, picture], [prompt, seed, *rows.inputs]
    filled = [prompt, before, *rows.inputs]
    ctx.on(page.load, arrive, prompt, filled, **quiet)
    ctx.on(rows.picker.change, show, rows.picker, [*rows.groups, *rows.titles], **quiet)
    ctx.on(rows.picker.input, pick, [prompt, before, rows.picker], [prompt, before], **quiet)
    ctx.on(go.click, mixed, said, outputs, concurrency_limit=None, **quiet)
    ctx.on(grid.click, weights, said, outputs, concurrency_limit=None, **quiet)
    ctx.on(compare.click, meet, rows.inputs, meter, **quiet)
    ctx.on(dropped.upload, opened, [dropped, prompt, before], filled, **quiet)
    for slot in SLOTS:
        ctx.on(keeps[slot].click, keeping(slot), rows.inputs, None, **quiet)
        ctx.on(recalls[slot].click, recalling(slot), [prompt, before], filled, **quiet)
    for field in rows.fields:
        event = field.release if isinstance(field, gr.Slider) else field.input
        ctx.on(event, follow, [live, *said], outputs, trigger_mode="always_last", concurrency_limit=None, **quiet)
