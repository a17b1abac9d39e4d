"""The adapters of a run side by side, one card each, as one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_diffusion.evaluation.choice import Candidate, Choice
from lora_diffusion.evaluation.evidence import Drawn
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.rendering import figure, jpeg, render, shown

__all__ = ["write_run_page"]

_PROMPTS = 6  # of a card; all are measured
_LOSS = "Validation loss"
_LOSS_MEANS = (
    "The error on pictures of the style that were not trained on. It falls while the style is learnt and rises once "
    "pictures are copied."
)


@dataclass(frozen=True, kw_only=True)
class _Card:
    step: int
    file: str
    best: bool
    pictures: list[tuple[str, str]]
    verdicts: list[tuple[str, str]]
    figures: list[str | None]


def write_run_page(choice: Choice, path: Path) -> None:
    """Write the page, whole or not at all. Raises DatasetError when `path` cannot be written."""
    measured = choice.measured
    with_loss = any(each.validation_loss is not None for each in choice.candidates)
    render(
        "run.html.j2",
        path,
        {
            "name": choice.run.name,
            "choice": choice,
            "base": _pictures(choice, choice.base),
            "cards": [_card(choice, each, measured, with_loss) for each in choice.candidates],
            "given": shown(choice.training),
            "prompts": len(choice.prompts),
            "titles": [*(each.title for each in measured), *([_LOSS] if with_loss else [])],
            "meanings": [
                *((each.title, each.means) for each in measured),
                *([(_LOSS, _LOSS_MEANS)] if with_loss else []),
            ],
        },
    )


def _card(choice: Choice, candidate: Candidate, measured: Sequence[Metric], with_loss: bool) -> _Card:
    scores = [candidate.scores[each.name] for each in measured]
    loss = candidate.validation_loss
    figures = [None if each.value is None else figure(each.value) for each in scores]
    return _Card(
        step=candidate.step,
        file=candidate.file,
        best=choice.best is candidate,
        pictures=_pictures(choice, candidate.pictures),
        verdicts=[(each.tone, each.verdict) for each in scores if each.value is not None],
        figures=[*figures, *([None if loss is None else f"{loss:.4g}"] if with_loss else [])],
    )


def _pictures(choice: Choice, drawn: Sequence[Drawn]) -> list[tuple[str, str]]:
    """Return the first picture of some prompts, with the prompt."""
    firsts = {each.prompt: each for each in reversed(drawn)}
    return [(choice.prompts[index], jpeg(firsts[index].pixels)) for index in sorted(firsts)[:_PROMPTS]]
