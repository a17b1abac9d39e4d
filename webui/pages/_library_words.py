"""What a style says about itself as rows of a table, and what a form says about it as an action takes it."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from webui.context import Context

__all__ = ["Show", "changes_of", "facts_of"]

Show = Callable[[str, gr.Request], list[Any]]
"""What shows a version by its reference."""


def facts_of(ctx: Context, version: Any) -> list[tuple[str, str]]:
    """Return names and values; a value that is empty is not shown."""
    details, t = version.details, ctx.t
    span = [details.weight_low, details.weight_high]
    reach = "" if None in span else f"{span[0] * 100:.0f} – {span[1] * 100:.0f} %"
    return [
        (t("library.trigger"), details.trigger),
        (t("library.weight"), f"{details.weight * 100:.0f} %"),
        (t("library.reach"), reach),
        (t("settings.family"), version.family),
        (t("library.licence"), details.licence),
        (t("library.expires"), details.expires),
        (t("library.owner"), ctx.named(details.owner)),
        (t("library.tags"), ", ".join(details.tags)),
        (t("library.size"), f"{t.number(version.bytes / 1e6, 2)} MB"),
        (t("library.hash"), version.sha256),
        (t("library.notes"), details.notes),
    ]


def changes_of(before: Sequence[Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return what was changed in the fields of the form, in its order, as `library.describe` takes it.

    What stayed is left out: somebody else may have changed it meanwhile. Weights are per cent in the form.
    """
    then = _said(before)
    return {key: value for key, value in _said(values).items() if value != then[key]}


def _said(values: Sequence[Any]) -> dict[str, Any]:
    trigger, weight, low, high, tags, licence, expires, owner, notes = values
    numbers = {"weight": weight, "weight_low": low, "weight_high": high}
    words = {"trigger": trigger, "licence": licence, "expires": expires, "owner": owner, "notes": notes}
    return {
        **{key: "" if value is None else value / 100 for key, value in numbers.items()},
        **{key: value or "" for key, value in words.items()},
        "tags": tuple(each.strip() for each in (tags or "").split(",") if each.strip()),
    }
