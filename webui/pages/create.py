"""Create: describe a picture, drag styles, see it come, keep what is good."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.components import banner, heading
from webui.context import Context
from webui.errors import BadRequest
from webui.pages import _create_compare, _create_history
from webui.pages._create_more import More
from webui.pages._create_results import Results
from webui.pages._create_words import Words
from webui.pages._styles import StyleRows

__all__ = ["NAME", "build"]

NAME = "create"
PURPOSES = ("square", "story", "banner", "a4", "photo")


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    heading(ctx, t("create.title"), t("create.intro"))
    banner(ctx, page)
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            prompt = gr.Textbox(
                label=t("create.prompt"),
                placeholder=t("create.prompt_example"),
                lines=3,
                max_length=4000,
                elem_id="prompt",
            )
            words = Words.build(ctx)
            styles = StyleRows.build(ctx)
            purpose = gr.Radio(
                label=t("create.purpose"), value="square", choices=[(t(f"create.{each}"), each) for each in PURPOSES]
            )
            count = gr.Slider(1, 8, value=2, step=1, label=t("create.count"))
            with gr.Row():
                go = gr.Button(t("create.go"), variant="primary", elem_id="go")
                stop = gr.Button(t("create.stop"), elem_id="stop")
            more = More.build(ctx)
            with gr.Accordion(t("create.text_form"), open=False):
                text = gr.Textbox(label=t("create.text"), info=t("create.text_info"), lines=2, max_length=6000)
            with gr.Accordion(t("create.drop"), open=False):
                dropped = gr.File(label=t("create.drop_label"), file_types=[".png"], type="filepath")
        with gr.Column(scale=7, min_width=300), gr.Tabs():
            with gr.Tab(t("create.results")):
                results = Results.build(ctx)
                with gr.Row(visible=False) as deeds:
                    star = gr.Button(t("create.star"), size="sm")
                    vary = gr.Button(t("create.vary"), size="sm")
            shape = [prompt, styles.picker, *styles.sliders, purpose, count, *more.fields]
            filled = [prompt, words.before, styles.picker, *styles.sliders, *more.fields]

            def settings(values: tuple[Any, ...], request: gr.Request) -> dict[str, Any]:
                """Return what the fields hold as `pictures.draw` takes it."""
                said, refs, rest = values[0], values[1], values[2:]
                if not (said or "").strip():
                    raise BadRequest(t("create.empty_prompt"), hint=t("create.empty_prompt_hint"))
                weights, (kind, number, *others) = rest[: len(styles.sliders)], rest[len(styles.sliders) :]
                side = ctx.act(request, "bases.size", purpose=kind)
                wanted = {"prompt": said, "styles": styles.used(refs, weights), "count": int(number)}
                return {**wanted, **side, **more.settings(others)}

            with gr.Tab(t("create.compare")):
                _create_compare.build(ctx, shape, settings)
            with gr.Tab(t("create.history")) as history:
                _create_history.build(ctx, history)

    def draw(request: gr.Request, ids: list[str], *values: Any) -> Iterator[tuple[Any, ...]]:
        events = ctx.act(request, "pictures.draw", settings=settings(values, request), preview_every=2)
        yield from results.follow(ctx, events, ids, request)

    def halt(request: gr.Request) -> str:
        stopped = ctx.act(request, "pictures.stop")
        return ctx.render("note", text=t("create.stopping" if stopped else "create.nothing_to_stop"))

    def fill(said: dict[str, Any], request: gr.Request) -> list[Any]:
        if said.get("missing"):
            gr.Warning(t("create.missing", styles=", ".join(said["missing"])))
        picker, *sliders = styles.filled(ctx, request, said.get("styles", []))
        prompts = said.get("prompt", gr.update())
        return [prompts, picker["value"], picker, *sliders, *more.filled(ctx, request, said)]

    def arrive(request: gr.Request) -> list[Any]:
        """Fill the page for whoever comes, with what the address asks for."""
        if ctx.user(request).role != "viewer":
            ctx.act(request, "pictures.warm")
        asked = dict(request.query_params)
        if asked.get("from"):
            return fill(ctx.act(request, "pictures.reuse", id=asked["from"]), request)
        if not (ref := asked.get("style")):
            return fill({}, request)
        return fill(
            {"prompt": words.added(ctx, request, "", [], [ref]), "styles": [{"ref": ref, "weight": 1}]}, request
        )

    def reuse(path: str | None, request: gr.Request) -> list[Any]:
        return fill(ctx.act(request, "pictures.reuse", upload=path) if path else {}, request)

    def read(request: gr.Request, said: str, refs: list[str], *weights: float) -> tuple[str, Any]:
        text = ctx.act(request, "pictures.as_text", prompt=said, styles=styles.used(refs, weights))
        return text, words.shown(ctx, request, said, refs)

    def from_text(written: str, request: gr.Request) -> list[Any]:
        return fill(ctx.act(request, "pictures.from_text", text=written), request)

    def keep(id: str, request: gr.Request) -> None:
        if id:
            ctx.act(request, "pictures.star", id=id)
            gr.Info(t("create.starred"))

    quiet = {"show_progress": "hidden"}
    ctx.on(page.load, arrive, None, filled, **quiet)
    ctx.on(go.click, draw, [results.ids, *shape], results.outputs, concurrency_limit=None, **quiet)
    ctx.on(stop.click, halt, None, results.status, concurrency_limit=None, **quiet)
    words.bind(ctx, page, prompt, styles.picker)
    for event in (prompt.change, styles.picker.change, *(slider.release for slider in styles.sliders)):
        seen = [prompt, styles.picker, *styles.sliders]
        ctx.on(event, read, seen, [text, words.ticks], trigger_mode="always_last", **quiet)
    ctx.on(text.submit, from_text, text, filled, **quiet)
    ctx.on(dropped.upload, reuse, dropped, filled, **quiet)
    ctx.on(results.chosen.change, lambda id: gr.update(visible=bool(id)), results.chosen, deeds, **quiet)
    ctx.on(star.click, keep, results.chosen, None, **quiet)
    ctx.on(vary.click, lambda: (gr.update(value=False), gr.update(value=4)), None, [more.lock, count], **quiet)
