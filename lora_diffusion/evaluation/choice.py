"""The adapters of one run beside each other, and which step to use."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evaluation import FORMAT
from lora_diffusion.evaluation.evidence import Drawn, Given
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.score import Plain, Score, rounded
from lora_diffusion.evaluation.weighing import SAME, BestWeight

__all__ = ["Candidate", "Choice", "best_of"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What was found of the adapter after so many steps. `file` is its path in the run.

    `pictures` are drawn at the weight that is the best, or nearest to 1 where none is; `validation_loss` is None where
    the run measured none at that step.
    """

    step: int
    file: str
    validation_loss: float | None
    scores: Mapping[str, Score]
    best: BestWeight
    pictures: tuple[Drawn, ...] = field(repr=False, compare=False)

    @property
    def style(self) -> float | None:
        """The style match at the best weight."""
        return None if self.best.value is None else self.scores["style_match"].by_weight[self.best.value]

    def to_dict(self) -> dict[str, Plain]:
        """Return it as plain JSON, without the pictures."""
        return {
            "step": self.step,
            "file": self.file,
            "validation_loss": self.validation_loss,
            "best_weight": rounded(self.best.value),
            "best_weight_reason": self.best.reason,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The adapters of a run side by side, in the order of their steps, and the one to use: None where none can be
    recommended. `base` are the pictures without adapter; all of a place have the same prompt and noise."""

    run: Path
    design: Design
    prompts: tuple[str, ...]
    trigger: str
    candidates: tuple[Candidate, ...]
    best: Candidate | None
    reason: str
    notes: tuple[str, ...]
    base: tuple[Drawn, ...] = field(repr=False, compare=False)
    training: tuple[Given, ...] = field(repr=False, compare=False)

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics that were measured of any of them, in the order of a page."""
        return tuple(
            each for each in metrics() if any(one.scores[each.name].value is not None for one in self.candidates)
        )

    @property
    def recommendation(self) -> str:
        """The step to use in a sentence."""
        if self.best is None or self.best.best.value is None:
            return f"No step can be recommended: {self.reason}."
        return f"Use step {self.best.step} at {self.best.best.value:.0%}: {self.reason}."

    def to_dict(self) -> dict[str, Plain]:
        """Return the result as plain JSON, without times and places."""
        used = self.best or self.candidates[-1]
        return {
            "format": FORMAT,
            "best_step": self.best.step if self.best else None,
            "best_step_reason": self.reason,
            "best_weight": rounded(used.best.value),
            "scores": {name: score.to_dict() for name, score in used.scores.items()},
            "candidates": [each.to_dict() for each in self.candidates],
            "notes": list(self.notes),
            "prompts": list(self.prompts),
        }

    def summary(self) -> str:
        """Return what a person reads first."""
        lines = [self.recommendation]
        for each in self.candidates:
            found = [
                f"{metric.title.lower()} {score.value:.3g}"
                for metric in self.measured
                if (score := each.scores[metric.name]).value is not None
            ]
            loss = [] if each.validation_loss is None else [f"validation loss {each.validation_loss:.4g}"]
            lines.append(f"step {each.step:6}  {each.file}: {', '.join([*found, *loss])}")
        return "\n".join([*lines, *(f"note: {each}" for each in self.notes)])


def best_of(judged: Sequence[Candidate]) -> tuple[Candidate | None, str]:
    """Return the first of those with the best style match, which is the one that is the least copied, and why."""
    able = [(each, each.style) for each in judged if each.style is not None]
    if not able:
        return None, f"at step {judged[-1].step}, {judged[-1].best.reason}"
    top = max(style for _, style in able)
    best = next(each for each, style in able if style >= top - SAME)
    later = [each for each in judged if each.step > best.step]
    return best, "; ".join([best.best.reason, *_limits(later, alone=len(judged) == 1)])


def _limits(later: Sequence[Candidate], *, alone: bool) -> Iterator[str]:
    unable = [each for each in later if each.style is None]
    if not later and not alone:
        yield "it still grows with the steps"
    if len(unable) < len(later):
        yield "more steps hardly gain"
    if unable:
        yield f"from step {unable[0].step} on it is worse: {unable[0].best.reason}"
