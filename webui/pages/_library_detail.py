"""One style: samples, facts, versions, where it comes from, what was said, and what may be changed."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from webui.context import Context
from webui.pages._library_words import changes_of, facts_of

__all__ = ["build"]

STAGES = ("in_review", "approved", "draft", "retired")


def build(ctx: Context, page: gr.Blocks) -> None:
    t = ctx.t
    ref = gr.State("")
    about = gr.HTML()
    with gr.Row(visible=False) as doing:
        draw = gr.Button(t("library.draw_samples"))
    status = gr.HTML()
    with gr.Tabs(visible=False) as tabs:
        with gr.Tab(t("library.versions")):
            timeline = gr.HTML()
            with gr.Row():
                other = gr.Dropdown(label=t("library.compare_with"), choices=[])
                stage = gr.Dropdown(label=t("library.stage"), choices=[(t(f"common.{each}"), each) for each in STAGES])
                reason = gr.Textbox(label=t("library.reason"), max_length=2000)
            with gr.Row():
                compare = gr.Button(t("library.compare"))
                move = gr.Button(t("library.move"))
                back = gr.Button(t("library.rollback"))
            difference = gr.HTML()
        with gr.Tab(t("library.describe")):
            trigger = gr.Textbox(label=t("library.trigger"), max_length=200)
            with gr.Row():
                weight = gr.Number(label=t("library.weight"), minimum=-200, maximum=200)
                low = gr.Number(label=t("library.weight_low"), minimum=-200, maximum=200)
                high = gr.Number(label=t("library.weight_high"), minimum=-200, maximum=200)
            tags = gr.Textbox(label=t("library.tags"), info=t("library.tags_info"), max_length=2000)
            with gr.Row():
                licence = gr.Textbox(label=t("library.licence"), max_length=200)
                expires = gr.Textbox(label=t("library.expires"), placeholder="2027-12-31", max_length=10)
                owner = gr.Textbox(label=t("library.owner"), max_length=200)
            notes = gr.Textbox(label=t("library.notes"), lines=3, max_length=10_000)
            save = gr.Button(t("library.save"), variant="primary")
        with gr.Tab(t("library.origin")):
            origin = gr.HTML()
            image = gr.Dropdown(label=t("library.image"), info=t("library.image_info"), choices=[])
            why = gr.Textbox(label=t("library.reason"), max_length=2000)
            sure = gr.Checkbox(label=t("library.withdraw_sure"), value=False)
            withdraw = gr.Button(t("library.withdraw"), variant="stop")
        with gr.Tab(t("library.talk")):
            talk = gr.HTML()
            text = gr.Textbox(label=t("library.comment"), max_length=2000)
            say = gr.Button(t("library.say"))
    fields = [trigger, weight, low, high, tags, licence, expires, owner, notes]
    outputs = [ref, about, doing, tabs, timeline, other, *fields, origin, image, talk]

    def show(name: str, request: gr.Request) -> tuple[Any, ...]:
        version = ctx.act(request, "library.show", ref=name)
        versions = ctx.act(request, "library.list", name=version.name, every=True)
        found = ctx.act(request, "library.origin", ref=version.ref)
        details = version.details
        pictures = [(sha256, file, ctx.file(path) if path else "") for sha256, file, path in found.pictures]
        samples = [(each, ctx.file(each.path)) for each in ctx.act(request, "library.samples", ref=version.ref)]
        uses = ctx.act(request, "library.where_used", ref=version.ref)
        percent = [
            None if each is None else 100 * each for each in (details.weight, details.weight_low, details.weight_high)
        ]
        return (
            version.ref,
            ctx.render("library_detail", version=version, samples=samples, facts=facts_of(ctx, version)),
            gr.update(visible=True),
            gr.update(visible=True),
            ctx.render("library_versions", versions=versions),
            gr.update(choices=[each.ref for each in versions if each.ref != version.ref], value=None),
            *(details.trigger, *percent, ", ".join(details.tags), details.licence, details.expires, details.owner),
            details.notes,
            ctx.render("library_origin", origin=found, pictures=pictures, uses=uses),
            gr.update(choices=[(file, sha256) for sha256, file, _ in pictures], value=None),
            ctx.render("library_talk", comments=ctx.act(request, "library.comments", ref=version.ref)),
        )

    def arrive(request: gr.Request) -> tuple[Any, ...]:
        asked = dict(request.query_params).get("ref", "")
        return show(asked, request) if asked else tuple(gr.update() for _ in outputs)

    def promote(name: str, wanted: str | None, said: str, request: gr.Request) -> tuple[Any, ...]:
        if wanted == "in_review" and ctx.act(request, "library.show", ref=name).stage == "draft":
            ctx.act(request, "library.submit", ref=name, reason=said or "")
        elif wanted:
            ctx.act(request, "library.promote", ref=name, stage=wanted, reason=said or "")
        return show(name, request)

    def roll(name: str, said: str, request: gr.Request) -> tuple[Any, ...]:
        style, _, number = name.rpartition("@")
        ctx.act(request, "library.rollback", name=style, number=int(number), reason=said or "")
        return show(name, request)

    def differ(name: str, second: str | None, request: gr.Request) -> str:
        if not second:
            return ctx.render("plain", text=t("library.compare_pick"))
        found = ctx.act(request, "library.compare", first=name, second=second)
        pairs = [tuple((ctx.file(one.path), one.prompt) if one else ("", "") for one in pair) for pair in found.samples]
        return ctx.render("library_compare", found=found, pairs=pairs)

    def keep(request: gr.Request, name: str, *values: Any) -> tuple[Any, ...]:
        ctx.act(request, "library.describe", ref=name, **changes_of(values))
        gr.Info(t("library.saved"))
        return show(name, request)

    def take_back(name: str, sha256: str | None, said: str, meant: bool, request: gr.Request) -> tuple[Any, ...]:
        if not (sha256 and meant and said):
            gr.Warning(t("library.withdraw_needs"))
        else:
            found = ctx.act(request, "library.withdraw", sha256=sha256, reason=said or "")
            touched = len(found.versions) + len(found.descendants)
            gr.Warning(t("library.withdrawn", styles=touched, pictures=len(found.pictures)))
        return show(name, request)

    def comment(name: str, said: str, request: gr.Request) -> tuple[Any, ...]:
        ctx.act(request, "library.comment", ref=name, text=said or "")
        return show(name, request)

    def sample(name: str, request: gr.Request) -> Iterator[str]:
        for event in ctx.act(request, "library.draw_samples", ref=name):
            if event["event"] == "failed":
                yield ctx.render("problem", text=event["reason"], hint=event["hint"])
                return
            yield ctx.render("create_status", text=t("create.drawing"), part=event.get("part", 0))
        yield ""

    quiet = {"show_progress": "hidden"}
    ctx.on(page.load, arrive, None, outputs, **quiet)
    ctx.on(move.click, promote, [ref, stage, reason], outputs)
    ctx.on(back.click, roll, [ref, reason], outputs)
    ctx.on(compare.click, differ, [ref, other], difference)
    ctx.on(save.click, keep, [ref, *fields], outputs)
    ctx.on(withdraw.click, take_back, [ref, image, why, sure], outputs)
    ctx.on(say.click, comment, [ref, text], outputs)
    ctx.on(ctx.on(draw.click, sample, ref, status, **quiet).then, show, ref, outputs, **quiet)
