"""Freeze a mix: as a recipe, an exact or a compact style, or a merged checkpoint, and what that costs."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from webui.context import Context
from webui.users import allows

__all__ = ["build"]

KINDS = ("exact", "compact", "recipe", "merged")
PRECISIONS = ("fp16", "bf16", "fp32", "fp8")


def build(
    ctx: Context, page: gr.Blocks, inputs: list[Any], mix: Callable[[tuple[Any, ...]], list[dict[str, Any]]]
) -> None:
    t = ctx.t
    name = gr.Textbox(label=t("blend.name_it"), max_length=64)
    kind = gr.Radio(label=t("blend.kind"), value="exact", choices=[(t(f"blend.kind_{each}"), each) for each in KINDS])
    keep = gr.Slider(50, 100, value=99, step=1, label=t("blend.keep"), info=t("blend.keep_info"), visible=False)
    with gr.Accordion(t("common.experts"), open=False, visible=False) as experts:
        precisions = [(t(f"export.{each}"), each) for each in PRECISIONS]
        precision = gr.Radio(precisions, value="fp16", label=t("blend.precision"), info=t("export.precision_info"))
    go = gr.Button(t("blend.freeze"), variant="primary", elem_id="freeze")
    job = gr.State("")
    status = gr.HTML(elem_id="frozen")
    clock = gr.Timer(1.5, active=False)
    mine = gr.HTML(elem_id="frozen-mixes")

    def which(chosen: str) -> tuple[Any, Any]:
        return gr.update(visible=chosen == "compact"), gr.update(visible=chosen == "merged")

    def freeze(request: gr.Request, called: str, chosen: str, kept: float, cast: str, *values: Any) -> tuple[Any, ...]:
        wanted = {
            "name": (called or "").strip() or t("blend.unnamed"),
            "kind": chosen,
            "keep": kept / 100,
            "precision": cast,
        }
        made = ctx.act(request, "blend.freeze", styles=mix(values), **wanted)
        if chosen == "recipe":
            return (
                "",
                ctx.render("blend_file", src=ctx.file(made["recipe"], name=f"{wanted['name']}.json")),
                gr.update(active=False),
            )
        return made.id, ctx.render("create_status", text=t("blend.freezing"), part=0.1), gr.update(active=True)

    def look(id: str, request: gr.Request) -> tuple[Any, Any]:
        if not id:
            return gr.update(), gr.update(active=False)
        found = ctx.act(request, "blend.result", id=id)
        row = found["job"]
        if row.state in ("failed", "stopped"):
            return ctx.render("problem", text=row.error or t("blend.stopped"), hint=row.hint), gr.update(active=False)
        if row.state != "done":
            return ctx.render("create_status", text=t("blend.freezing"), part=0.5), gr.update()
        src = ctx.file(found["file"], name=f"{row.title}.safetensors") if found["file"] else ""
        return ctx.render("blend_done", row=row, report=found["report"], ref=found["ref"], src=src), gr.update(
            active=False
        )

    def listed(request: gr.Request) -> str:
        if not allows(ctx.user(request), "creator"):
            return ""
        return ctx.render("blend_mine", rows=[(each, address(each)) for each in ctx.act(request, "blend.list")])

    def address(each: Any) -> str:
        suffix = "json" if each.kind == "recipe" else "safetensors"
        return ctx.file(each.file, name=f"{each.name}.{suffix}") if each.file else ""

    for event in (page.load, status.change):
        ctx.on(event, listed, None, mine, show_progress="hidden")
    ctx.on(kind.input, which, kind, [keep, experts], show_progress="hidden")
    ctx.on(go.click, freeze, [name, kind, keep, precision, *inputs], [job, status, clock], show_progress="hidden")
    ctx.on(clock.tick, look, job, [status, clock], show_progress="hidden")
