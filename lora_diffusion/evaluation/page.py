"""An evaluation as one HTML file that needs nothing else, for somebody who chooses pictures and trains no models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_diffusion.evaluation.evaluation import Evaluation
from lora_diffusion.evaluation.evidence import Drawn
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.rendering import jpeg, render, shown
from lora_diffusion.evaluation.score import Score

__all__ = ["write_page"]

_ROWS = 24  # prompts of the grid; all are measured
_FULL: Mapping[str, float] = {"of 100": 100.0, "of usual distance": 1.5, "100 cosine": 40.0}
"""Where a bar ends that has an end of its own; the others end at their longest."""


@dataclass(frozen=True, kw_only=True)
class _Bar:
    weight: str
    value: float
    length: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One metric on the page."""

    name: str
    title: str
    means: str
    score: Score
    bars: tuple[_Bar, ...]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    source: str
    label: str
    best: bool


def write_page(evaluation: Evaluation, path: Path) -> None:
    """Write the page, whole or not at all. Raises DatasetError when `path` cannot be written."""
    blocks = [_block(evaluation, name) for name in (each.name for each in metrics())]
    evidence = evaluation.evidence
    context = {
        "name": evaluation.adapter.name,
        "trigger": evaluation.adapter.trigger,
        "against": evidence.against.name if evidence.against else "",
        "evaluation": evaluation,
        "measured": [each for each in blocks if each.score.value is not None],
        "unmeasured": [each for each in blocks if each.score.value is None and _asked(each.name)],
        "columns": _columns(evaluation),
        "rows": _rows(evaluation),
        "hidden": max(0, len(evidence.prompts) - _ROWS),
        "given": shown(evidence.training),
        "pictures": sum(map(len, (evidence.base, *evidence.sweep.values()))),
    }
    render("adapter.html.j2", path, context)


def _block(evaluation: Evaluation, name: str) -> _Block:
    metric = next(each for each in metrics() if each.name == name)
    score = evaluation.scores[name]
    values = score.by_weight
    end = _FULL.get(score.unit, 0.0) or max([*map(abs, values.values()), 1e-9])
    bars = tuple(
        _Bar(
            weight=f"{weight:.0%}",
            value=value,
            length=100 * min(1.0, max(0.0, value / end)),
            best=weight == evaluation.best_weight,
        )
        for weight, value in values.items()
    )
    return _Block(name=name, title=metric.title, means=metric.means, score=score, bars=bars)


def _asked(name: str) -> bool:
    return next(each.asked for each in metrics() if each.name == name)


def _columns(evaluation: Evaluation) -> list[tuple[str, bool]]:
    weights = [(f"{weight:.0%}", weight == evaluation.best_weight) for weight in evaluation.evidence.sweep]
    other = evaluation.evidence.against
    return [("Base model", False), *weights, *([(other.name, False)] if other else [])]


def _rows(evaluation: Evaluation) -> list[tuple[str, list[_Cell]]]:
    """Return each prompt with its first picture in every column."""
    evidence = evaluation.evidence
    columns = [evidence.base, *evidence.sweep.values(), *([evidence.other] if evidence.other else [])]
    heads = _columns(evaluation)
    rows = []
    for index, prompt in list(enumerate(evidence.prompts))[:_ROWS]:
        cells = [
            _Cell(source=jpeg(_first(drawn, index).pixels), label=f"{prompt.content}, {head}", best=best)
            for drawn, (head, best) in zip(columns, heads, strict=True)
        ]
        rows.append((prompt.content, cells))
    return rows


def _first(drawn: Sequence[Drawn], prompt: int) -> Drawn:
    return next(each for each in drawn if each.prompt == prompt)
