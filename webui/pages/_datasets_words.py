"""What the checks found, in the words of the page: titles and advice in the visitor's language."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from datasets_tools import Finding, title_of
from webui.context import Context
from webui.text import catalogue

__all__ = ["Said", "advice", "grouped", "reason", "said", "title"]

_LOOKS = {"blocks": ("blocked", "✖"), "warns": ("in_review", "!"), "notes": ("draft", "i")}
"""Severity -> colour of its badge, and the sign that says the same without colour."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A finding as the templates show it. `foreign` is the language of a reason that has no words in the page's."""

    title: str
    look: str
    sign: str
    severity: str
    file: str
    reason: str
    foreign: str
    advice: str


def said(ctx: Context, one: Finding) -> Said:
    """Return a finding with its title and advice in the visitor's language."""
    look, sign = _LOOKS[one.severity]
    known = ctx.t.language == "en" or ctx.worded(one.reason) != one.reason
    return Said(
        title=title(ctx, one.code),
        look=look,
        sign=sign,
        severity=ctx.t(f"datasets.{one.severity}"),
        file=one.file,
        reason=ctx.sentence(one.reason),
        foreign="" if known else "en",
        advice=advice(ctx, one.code) or ctx.sentence(one.remedy),
    )


def grouped(found: Iterable[Said]) -> list[list[Said]]:
    """Return findings of one kind together, in the order in which the kinds first come."""
    groups: dict[tuple[str, str], list[Said]] = {}
    for one in found:
        groups.setdefault((one.severity, one.title), []).append(one)
    return list(groups.values())


def title(ctx: Context, code: str) -> str:
    """Return what a finding is called."""
    key = f"datasets.f_{code.replace('-', '_')}"
    return ctx.t(key) if key in catalogue() else title_of(code)


def advice(ctx: Context, code: str) -> str:
    """Return what to do about a finding in this language; empty where the checks say it better."""
    key = f"datasets.r_{code.replace('-', '_')}"
    return ctx.t(key) if key in catalogue() else ""


def reason(ctx: Context, text: str) -> tuple[str, str]:
    """Return points and title of a line such as "-12: no captions"."""
    points, _, name = text.partition(": ")
    code = _codes().get(name.casefold())
    return points, title(ctx, code) if code else name


@cache
def _codes() -> dict[str, str]:
    keys = [key.removeprefix("datasets.f_") for key in catalogue() if key.startswith("datasets.f_")]
    codes = [key.replace("_", "-") for key in keys]
    return {title_of(code).casefold(): code for code in codes}
