"""A set as HTML: its health, its pictures in a grid, one picture, the list of changes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from webui.checks import WITHDRAWN
from webui.context import Context
from webui.pages._datasets_words import advice, grouped, reason, said, title
from webui.users import LOCAL

__all__ = ["PICKS", "grid", "header", "health", "history", "picture"]

PICKS = """
element.addEventListener('click', (event) => {
  const pick = event.target.closest('[data-file]');
  if (!pick) return;
  trigger('select', { file: pick.dataset.file });
  const panel = document.getElementById('picture-panel');  // on a phone it lies below the grid
  if (panel && panel.getBoundingClientRect().top > innerHeight) panel.scrollIntoView();
});
"""
"""What makes a click on a picture of the grid, or Enter on it, the event `select` with its name."""


def header(ctx: Context, row: Any) -> str:
    """Return name, owner and counts of a set, with the way to teach it and why it cannot be changed."""
    return ctx.render("datasets_head", row=row, local=LOCAL.name)


def health(ctx: Context, view: Any) -> str:
    """Return score, what would raise it, what costs points, sizes; nothing while it is not known."""
    if view.health is None:
        return ""
    changes = [
        {
            "points": each.points,
            "title": title(ctx, each.code),
            "remedy": advice(ctx, each.code) or ctx.sentence(each.remedy),
        }
        for each in view.health.changes
    ]
    return ctx.render(
        "datasets_health",
        health=view.health,
        changes=changes,
        reasons=[reason(ctx, each) for each in view.health.reasons],
        whole=grouped(said(ctx, one) for one in view.health.findings),
        obstacles=_obstacles(ctx, [each for each in view.pictures if not each.excluded]),
    )


def grid(ctx: Context, view: Any, selected: str) -> str:
    """Return the pictures as buttons, each with its crop and what was found."""
    return ctx.render("datasets_grid", pictures=[_shown(ctx, row) for row in view.pictures], selected=selected)


def picture(ctx: Context, row: Any) -> str:
    """Return one picture large, with all that was found and its rights."""
    stated = [(ctx.t(f"datasets.{key}"), value) for key, value in asdict(row.rights).items() if value]
    return ctx.render("datasets_picture", each=_shown(ctx, row), rights=stated)


def history(ctx: Context, request: gr.Request, id: str) -> str:
    """Return the changes as a table, the latest first."""
    return ctx.render("datasets_history", entries=ctx.act(request, "datasets.history", id=id))


def _shown(ctx: Context, row: Any) -> dict[str, Any]:
    findings = [said(ctx, one) for one in row.findings if one.code != "image-excluded"]
    return {
        "row": row,
        "src": ctx.file(row.path),
        "box": _box(row.crop),
        "findings": findings,
        "groups": grouped(findings),
    }


def _box(crop: Sequence[float] | None) -> str:
    """Return where the crop lies as CSS; the numbers are ours."""
    if crop is None:
        return ""
    return ";".join(f"{side}:{100 * share:.2f}%" for side, share in zip(_SIDES, crop, strict=True))


_SIDES = ("left", "top", "width", "height")


def _obstacles(ctx: Context, taught: Sequence[Any]) -> list[str]:
    """Return a sentence for each thing about who allows the use of the pictures that forbids teaching them."""
    problems = [each.rights_problem for each in taught]
    withdrawn = sum(any(one.code == WITHDRAWN for one in each.findings) for each in taught)
    counted = {
        "withdrawn": withdrawn,
        "rights_expired": problems.count("expired"),
        "rights_missing": problems.count("missing"),
    }
    return [ctx.t(f"datasets.{key}", n=n, total=len(taught)) for key, n in counted.items() if n]
