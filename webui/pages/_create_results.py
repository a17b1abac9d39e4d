"""What is being drawn, what came of it, and what can be done with a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.components import pickable, picked
from webui.context import Context

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """Progress, a live preview, the pictures of this visit and the one that is chosen."""

    status: gr.HTML
    live: gr.HTML
    gallery: gr.HTML
    ids: gr.State
    chosen: gr.State
    picture: gr.HTML

    @classmethod
    def build(cls, ctx: Context) -> "Results":
        status, live = gr.HTML(elem_id="drawing"), gr.HTML()
        gallery = pickable(value=ctx.render("plain", text=ctx.t("create.here")), elem_id="results")
        results = cls(status, live, gallery, gr.State([]), gr.State(""), gr.HTML(elem_id="chosen"))
        results._judging(ctx)
        ctx.on(gallery.select, results._choose(ctx), None, [results.chosen, results.picture], show_progress="hidden")
        return results

    def _judging(self, ctx: Context) -> None:
        """Let an approver say whether the chosen picture may be used."""
        t = ctx.t
        judges = ctx.needs("pictures.judge")
        with gr.Accordion(t("create.judge"), open=False, visible=False, elem_classes=judges) as judgement:
            reason = gr.Textbox(label=t("create.judge_why"), max_length=2000)
            with gr.Row():
                good = gr.Button(t("create.approve"), size="sm")
                bad = gr.Button(t("create.off_brand"), size="sm")

        def judging(state: str) -> Any:
            def judge(id: str, why: str, request: gr.Request) -> str:
                if id:
                    ctx.act(request, "pictures.judge", id=id, state=state, reason=why if state == "off_brand" else "")
                return self._about(ctx, id, request)

            return judge

        def ask(id: str) -> tuple[Any, str]:
            return gr.update(visible=bool(id)), ""  # what was written about another picture is not about this one

        ctx.on(self.chosen.change, ask, self.chosen, [judgement, reason], show_progress="hidden")
        ctx.on(good.click, judging("approved"), [self.chosen, reason], self.picture, show_progress="hidden")
        ctx.on(bad.click, judging("off_brand"), [self.chosen, reason], self.picture, show_progress="hidden")

    @property
    def outputs(self) -> list[Any]:
        return [self.status, self.live, self.gallery, self.ids, self.chosen, self.picture]

    def follow(
        self, ctx: Context, events: Iterator[Any], before: Sequence[str], request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Yield updates of `outputs` as the events of a drawing come; new pictures go before those of this visit."""
        same = gr.update()
        ids, drawn = list(before), 0
        yield ctx.render("create_status", text=ctx.t("create.begins"), part=0), "", same, ids, "", ""
        for event in events:
            match event.event:
                case "waiting":
                    text = ctx.t("create.waiting", n=event.before)
                    yield ctx.render("create_status", text=text, part=0), same, same, same, same, same
                case "loading":
                    yield (
                        ctx.render("create_status", text=ctx.t("create.loading"), part=0),
                        same,
                        same,
                        same,
                        same,
                        same,
                    )
                case "step":
                    text = ctx.t("create.step", done=event.done, total=event.total)
                    yield (
                        ctx.render("create_status", text=text, part=event.done / event.total),
                        same,
                        same,
                        same,
                        same,
                        same,
                    )
                case "preview":
                    yield same, ctx.render("create_live", jpeg=event.preview), same, same, same, same
                case "picture":
                    ids.insert(drawn, event.picture.id)
                    drawn += 1
                    yield same, "", self._shown(ctx, ids, request), list(ids), same, same
                case "failed":
                    yield ctx.render("problem", text=event.reason, hint=event.hint), "", same, same, same, same
                case "stopped":
                    yield ctx.render("note", text=ctx.t("create.stopped")), "", same, same, same, same
                case "done":
                    newest = ids[0] if drawn else ""
                    yield (
                        ctx.render("note", text=ctx.t("create.done", n=drawn)),
                        "",
                        same,
                        same,
                        newest,
                        self._about(ctx, newest, request),
                    )

    def _shown(self, ctx: Context, ids: Sequence[str], request: gr.Request) -> str:
        found = [ctx.act(request, "pictures.show", id=each) for each in ids]
        return ctx.render("pick_pictures", shots=[ctx.shot(each) for each in found])

    def _choose(self, ctx: Context) -> Any:
        def choose(request: gr.Request, event: gr.EventData) -> tuple[str, str]:
            return picked(event), self._about(ctx, picked(event), request)

        return choose

    def _about(self, ctx: Context, id: str, request: gr.Request) -> str:
        if not id:
            return ""
        picture = ctx.act(request, "pictures.show", id=id)
        return ctx.render("create_chosen", picture=picture, src=ctx.file(picture.path), settings=picture.settings)
