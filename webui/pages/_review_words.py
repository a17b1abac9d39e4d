"""What is shown of a version that is reviewed: pictures, figures in plain sentences, and the checklist with facts."""

from collections.abc import Sequence
from typing import Any

from webui.actions.review import CHECKS, Dossier, Figure
from webui.context import Context

__all__ = ["labels_of", "measured", "percent_of", "shown", "value_of"]

REFERENCES = 12
"""Training pictures that are shown: enough to judge a style by; the library has all."""


def shown(ctx: Context, found: Dossier, parents: Sequence[tuple[str, float]], *, approver: bool) -> str:
    """Return the version with its pictures side by side, and why nobody can decide where nobody can."""
    version, t = found.version, ctx.t
    why = ""
    if version.blocked:
        why = t("review.blocked")
    elif version.stage != "in_review":
        why = t("review.not_waiting", stage=t(f"common.{version.stage}"))
    elif not approver:
        why = t("review.looking")
    return ctx.render(
        "review_about",
        version=version,
        why=why,
        samples=[(each, ctx.file(each.path)) for each in found.samples],
        references=[(name, ctx.file(path)) for name, path in found.references[:REFERENCES]],
        rights=found.rights,
        parents=[(ref, percent_of(ctx, weight)) for ref, weight in parents],
        percent=percent_of(ctx, version.details.weight),
    )


def measured(ctx: Context, found: Dossier) -> str:
    """Return the figures with a sentence each; what is missing says so."""
    t, figures = ctx.t, found.figures
    if figures is None:
        return ctx.render("review_figures", figures=None)
    best = percent_of(ctx, figures.best) if figures.best is not None else ""
    return ctx.render(
        "review_figures",
        figures=figures,
        best=best,
        rows=[(t(f"review.{each.name}"), value_of(ctx, each), _sentence(ctx, each), each) for each in figures.scores],
        page=ctx.file(figures.page, name=f"{found.version.name}-evaluation.html") if figures.page.is_file() else "",
    )


def labels_of(ctx: Context, found: Dossier) -> list[tuple[str, str]]:
    """Return each check with what is known about it."""
    t, details = ctx.t, found.version.details
    figures, rights = found.figures, found.rights
    facts = {
        "rights": _rights(ctx, rights),
        "samples": t("review.samples_there", n=len(found.samples)) if found.samples else t("review.samples_none"),
        "trigger": t("review.trigger_is", word=details.trigger) if details.trigger else t("review.trigger_none"),
        "copies": t("review.copies_unknown") if figures is None else _copies(ctx, found),
        "licence": t("review.licence_is", licence=details.licence) if details.licence else t("review.licence_none"),
    }
    return [(each, f"{t(f'review.check_{each}')} ({facts[each]})") for each in CHECKS]


def _rights(ctx: Context, rights: Any) -> str:
    t = ctx.t
    if not rights.known:
        return t("review.rights_unknown")
    if rights.missing or rights.expired:
        return t("review.rights_lacking", missing=rights.missing, expired=rights.expired)
    return t("review.rights_fine", n=rights.known)


def _copies(ctx: Context, found: Dossier) -> str:
    assert found.figures is not None
    score = found.figures.score("memorisation")
    if score is None or score.value is None:
        return ctx.t("review.copies_unknown")
    return ctx.t("review.copies_found" if found.figures.copied else "review.copies_fine")


def percent_of(ctx: Context, weight: float) -> str:
    """Return a weight in per cent."""
    return f"{ctx.t.number(100 * weight)} %"


def value_of(ctx: Context, score: Figure) -> str:
    """Return a figure with its unit; a dash where it was not measured."""
    if score.value is None:
        return "–"
    if score.unit == "of 100":
        return ctx.t("review.of_100", n=ctx.t.number(score.value))
    if score.unit == "of usual distance":
        return ctx.t("review.of_usual", n=ctx.t.number(score.value, 2))
    if score.unit == "% less error":
        return ctx.t("review.less_error", n=ctx.t.number(score.value))
    return ctx.t.number(score.value, 2)


def _sentence(ctx: Context, score: Figure) -> str:
    if score.value is None:
        return ctx.t("review.unmeasured")
    tone = score.tone if score.tone in ("good", "warns", "bad") else "plain"
    return ctx.t(f"review.{score.name}_{tone}")
