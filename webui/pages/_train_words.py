"""What a check of a plan finds, in the words of this page where the picture sets have none."""

from dataclasses import replace
from typing import Any

from webui.context import Context
from webui.pages._datasets_words import Said
from webui.pages._datasets_words import said as said_of_sets
from webui.text import catalogue

__all__ = ["said"]


def said(ctx: Context, one: Any) -> Said:
    """Return a finding with its title and advice in the visitor's language."""
    found = said_of_sets(ctx, one)
    code = one.code.replace("-", "_")
    keys = {"title": f"train.f_{code}", "advice": f"train.r_{code}"}
    return replace(found, **{name: ctx.t(key) for name, key in keys.items() if key in catalogue()})
