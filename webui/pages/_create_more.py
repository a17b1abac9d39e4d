"""What Create keeps in a drawer: steps, guidance, sampler, seed, what not to show, a picture to begin with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["RANDOM", "More"]

RANDOM = -1
"""The start number of a picture that may begin anywhere."""


@dataclass(frozen=True)
class More:
    """The fields of the drawer, in the order in which `settings` reads them."""

    negative: gr.Textbox
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.Dropdown
    seed: gr.Number
    lock: gr.Checkbox
    start: gr.Image
    strength: gr.Slider

    @classmethod
    def build(cls, ctx: Context) -> "More":
        t = ctx.t
        with gr.Accordion(t("create.more"), open=False):
            negative = gr.Textbox(label=t("create.negative"), info=t("create.negative_info"), max_length=4000)
            with gr.Row():
                seed = gr.Number(label=t("create.seed"), value=RANDOM, precision=0, minimum=RANDOM, maximum=2**53)
                lock = gr.Checkbox(label=t("create.seed_lock"), info=t("create.seed_info"), value=False)
            ctx.on(seed.input, lambda number: number is not None and number >= 0, seed, lock, show_progress="hidden")
            steps = gr.Slider(1, 100, value=20, step=1, label=t("create.steps"), info=t("create.steps_info"))
            guidance = gr.Slider(0, 30, value=7.5, step=0.5, label=t("create.guidance"), info=t("create.guidance_info"))
            samplers = [(t("create.sampler_own"), "")]
            sampler = gr.Dropdown(samplers, value="", label=t("create.sampler"), info=t("create.sampler_info"))
            start = gr.Image(
                label=t("create.start"), type="filepath", sources=["upload", "clipboard"], height=180, buttons=[]
            )
            strength = gr.Slider(
                0.05, 1, value=0.6, step=0.05, label=t("create.strength"), info=t("create.strength_info")
            )
        return cls(negative, steps, guidance, sampler, seed, lock, start, strength)

    @property
    def fields(self) -> list[Any]:
        return [self.negative, self.steps, self.guidance, self.sampler, self.seed, self.lock, self.start, self.strength]

    def settings(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return what the fields hold as `pictures.draw` takes it."""
        negative, steps, guidance, sampler, seed, lock, start, strength = values
        wanted = {
            "negative": negative or "",
            "steps": int(steps),
            "guidance": guidance,
            "sampler": sampler or "",
            "seed": int(seed) if lock and seed is not None else RANDOM,
        }
        return {**wanted, "start": start, "strength": strength} if start else wanted

    def filled(self, ctx: Context, request: gr.Request, said: dict[str, Any]) -> list[Any]:
        """Return updates that show settings which are used again; the seed is locked where one is known."""
        samplers = [(ctx.t("create.sampler_own"), "")]
        samplers += [(each["title"], each["name"]) for each in ctx.act(request, "pictures.samplers")]
        known = {name for _, name in samplers}
        title = dict(samplers).get(said.get("sampler", ""), said.get("sampler", ""))
        seed = said.get("seed")
        return [
            said.get("negative", gr.update()),
            said.get("steps", gr.update()),
            said.get("guidance", gr.update()),
            gr.update(choices=samplers, value=title if title in known else ""),
            gr.update() if seed is None else seed,
            gr.update() if seed is None else seed != RANDOM,
            None if said.get("start") == "" else gr.update(),
            said.get("strength", gr.update()),
        ]
