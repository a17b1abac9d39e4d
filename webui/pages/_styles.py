"""Rows of styles with sliders, which Create and Blend share: eight are built, those in use are shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from webui.context import Context

__all__ = ["ROWS", "StyleRows", "choices", "kept", "offered", "percent"]

T = TypeVar("T")

ROWS = 8
EVERYDAY, EXPERT = (0, 150), (-200, 200)
"""Per cent that a slider offers."""


@dataclass(frozen=True)
class StyleRows:
    """A picker of styles and a slider for each that is picked. `placed` are the styles that the sliders belong to."""

    picker: gr.Dropdown
    sliders: list[gr.Slider]
    expert: gr.Checkbox
    placed: gr.State
    settled: Any
    """The event after which the sliders are those of the styles that were picked."""

    @classmethod
    def build(cls, ctx: Context) -> "StyleRows":
        picker = gr.Dropdown(
            label=ctx.t("styles.pick"), info=ctx.t("styles.pick_info"), multiselect=True, max_choices=ROWS, choices=[]
        )
        sliders = [
            gr.Slider(*EVERYDAY, value=100, step=5, visible=False, interactive=True, label=ctx.t("styles.weight"))
            for _ in range(ROWS)
        ]
        expert, placed = gr.Checkbox(label=ctx.t("styles.expert"), value=False, visible=False), gr.State([])
        given = [picker, placed, expert, *sliders]
        settled = ctx.on(picker.change, _follow(ctx), given, [placed, expert, *sliders], show_progress="hidden")
        ctx.on(expert.input, _reach, [expert, *sliders], sliders, show_progress="hidden")
        return cls(picker, sliders, expert, placed, settled)

    def used(self, refs: Sequence[str] | None, weights: Sequence[float]) -> list[dict[str, Any]]:
        """Return the styles as actions take them; 100 % is a weight of 1."""
        return [{"ref": ref, "weight": weight / 100} for ref, weight in zip(refs or [], weights, strict=False)]

    @property
    def fields(self) -> list[Any]:
        """What `filled` fills in."""
        return [self.picker, self.placed, self.expert, *self.sliders]

    def filled(self, ctx: Context, request: gr.Request, styles: Sequence[dict[str, Any]]) -> list[Any]:
        """Return updates of `fields` that show these styles, with sliders that reach as far as they have to.

        A style without a weight begins at its preferred one.
        """
        found = offered(ctx, request, styles)
        preferred = {each.ref: each.details.weight for each in found}
        wanted = [each for each in styles if each["ref"] in preferred][:ROWS]
        refs = [each["ref"] for each in wanted]
        values = [percent(each.get("weight", preferred[each["ref"]])) for each in wanted]
        return [gr.update(choices=choices(ctx, found), value=refs), refs, *_strong_enough(values)]


def offered(ctx: Context, request: gr.Request, styles: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the versions that can be picked where these styles are shown, approved ones first.

    Of each style that is the current one, and earlier ones that are shown: settings of last year go on meaning them.
    """
    refs = {each.ref for each in ctx.act(request, "library.list")} | {each["ref"] for each in styles}
    every = ctx.act(request, "library.list", every=True)
    found = [each for each in every if each.ref in refs and each.stage != "retired"]
    return sorted(found, key=lambda each: (each.stage != "approved", each.name.casefold()))


def choices(ctx: Context, versions: Sequence[Any]) -> list[tuple[str, str]]:
    """Return versions as a picker offers them; where there are two of a style, each with its number."""
    names = [each.name for each in versions]
    return [
        (f"{each.name if names.count(each.name) == 1 else each.ref} · {ctx.t(f'common.{each.stage}')}", each.ref)
        for each in versions
    ]


def percent(weight: float | None) -> float:
    """Return a weight as a slider shows it; a style without a preferred one works at 100."""
    return 100 if weight is None else max(EXPERT[0], min(EXPERT[1], round(100 * weight, 2)))


def kept(refs: Sequence[str], before: Sequence[str], rows: Sequence[T], fresh: Callable[[str], T]) -> list[T]:
    """Return the rows of the styles that are picked now, each with what it had while others came and went."""
    had = dict(zip(before, rows, strict=False))
    return [had[ref] if ref in had else fresh(ref) for ref in refs]


def _strong_enough(values: Sequence[float]) -> list[Any]:
    """Return updates of the expert's box and of the sliders; strengths beyond those of every day open their range."""
    everyday = all(EVERYDAY[0] <= value <= EVERYDAY[1] for value in values)
    reach = {} if everyday else {"minimum": EXPERT[0], "maximum": EXPERT[1]}
    sliders = [gr.update(value=value, **reach) for value in values] + [gr.update()] * (ROWS - len(values))
    return [gr.update() if everyday else gr.update(value=True), *sliders]


def _reach(expert: bool, *weights: float) -> list[Any]:
    low, high = EXPERT if expert else EVERYDAY
    return [gr.update(minimum=low, maximum=high, value=min(high, max(low, weight))) for weight in weights]


def _follow(ctx: Context) -> Callable[..., list[Any]]:
    def follow(request: gr.Request, refs: list[str], placed: list[str], expert: bool, *weights: float) -> list[Any]:
        """Show the sliders of the styles that are picked. Where they are there already their values stay untouched."""
        refs, versions = refs or [], {each.ref: each for each in ctx.act(request, "library.list", every=True)}
        names = [versions[ref].name if ref in versions else ref for ref in refs]
        labels = [ctx.t("styles.weight_of", style=name) for name in names]
        shown = [{"visible": True, "label": label} for label in labels] + [{"visible": False}] * (ROWS - len(refs))
        updates: list[Any] = [gr.update()] * (ROWS + 1)
        if refs != placed:
            values = kept(refs, placed, weights, lambda ref: percent(versions[ref].details.weight))
            updates = _strong_enough(values)
        box, *sliders = updates
        box = {**box, "visible": bool(refs)}
        return [refs, box, *({**slider, **more} for slider, more in zip(sliders, shown, strict=True))]

    return follow
