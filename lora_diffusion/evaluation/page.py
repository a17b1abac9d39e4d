"""An evaluation as one HTML file that needs nothing else, for somebody who chooses pictures and trains no models."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lora_diffusion.evaluation.evaluation import Evaluation
from lora_diffusion.evaluation.evidence import Drawn, Given
from lora_diffusion.evaluation.features import Pixels
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.score import Score

__all__ = ["write_page"]

_SIDE = 256  # pixels of a picture on the page: about 10 kB each
_ROWS = 24  # prompts of the grid; all are measured
_SHOWN = 8  # training pictures to compare with
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
    from jinja2 import Environment, StrictUndefined

    from datasets_tools.storage import replacing

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"digest": _digest, "figure": figure}
    template = environment.from_string((files("lora_diffusion.evaluation") / "page.html").read_text(encoding="utf-8"))
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
        "given": [_given(each) for each in (evidence.training or ())[:_SHOWN]],
        "pictures": sum(map(len, (evidence.base, *evidence.sweep.values()))),
    }
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.write(template.render(context))


def figure(value: float) -> str:
    """Return a number with the digits that it is known to."""
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) < 2 else f"{value:.1f}"


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
            _Cell(source=_source(_first(drawn, index).pixels), label=f"{prompt.content}, {head}", best=best)
            for drawn, (head, best) in zip(columns, heads, strict=True)
        ]
        rows.append((prompt.content, cells))
    return rows


def _first(drawn: Sequence[Drawn], prompt: int) -> Drawn:
    return next(each for each in drawn if each.prompt == prompt)


def _given(picture: Given) -> tuple[str, str]:
    return picture.name, _source(picture.pixels)


def _source(pixels: Pixels) -> str:
    """Return a picture as base64 JPEG."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _digest(style: str) -> str:
    """Return what a content security policy calls this style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
