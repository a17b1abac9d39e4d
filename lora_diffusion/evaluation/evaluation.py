"""The result of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.score import Plain, Score, rounded
from lora_diffusion.evaluation.weighing import BestWeight
from lora_diffusion.files.adapter import Adapter

__all__ = ["Evaluation"]

FORMAT = 1
"""Raised when the meaning of a key of `to_dict` changes."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found of an adapter. `scores` are by the name of the metric; `evidence` holds the pictures."""

    base: str
    design: Design
    scores: Mapping[str, Score]
    best: BestWeight
    notes: tuple[str, ...] = ()
    evidence: Evidence = field(repr=False, compare=False)

    @property
    def adapter(self) -> Adapter:
        return self.evidence.adapter

    @property
    def best_weight(self) -> float | None:
        """The weight to use, None where none can be recommended."""
        return self.best.value

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What was found in sentences, the most important first."""
        measured = (self.scores[each.name] for each in metrics())
        return (self.recommendation, *(each.verdict for each in measured if each.value is not None))

    @property
    def recommendation(self) -> str:
        """The best weight in a sentence."""
        if self.best.value is None:
            return f"No weight can be recommended: {self.best.reason}."
        return f"Use it at {self.best.value:.0%}: {self.best.reason}."

    def to_dict(self) -> dict[str, Plain]:
        """Return the result as plain JSON: the same for the same arguments, without times and paths."""
        evidence = self.evidence
        drawn = (evidence.base, *evidence.sweep.values(), evidence.plain or (), evidence.other or ())
        design: dict[str, Plain] = {name: _plain(value) for name, value in self.design.to_dict().items()}
        return {
            "format": FORMAT,
            "adapter": _named(self.adapter),
            "against": None if evidence.against is None else _named(evidence.against),
            "base": self.base,
            "best_weight": rounded(self.best.value),
            "best_weight_reason": self.best.reason,
            "scores": {
                each.name: {"title": each.title, "means": each.means, **self.scores[each.name].to_dict()}
                for each in metrics()
            },
            "verdicts": list(self.verdicts),
            "notes": list(self.notes),
            "design": design,
            "prompts": [each.full for each in evidence.prompts],
            "pictures_drawn": sum(map(len, drawn)),
            "training_pictures": len(evidence.training or ()),
            "held_out_pictures": len(evidence.held_out or ()),
        }

    def summary(self) -> str:
        """Return what a person reads first."""
        lines = [self.recommendation]
        for each in metrics():
            score = self.scores[each.name]
            if score.value is not None:
                lines.append(f"{each.title:36} {score.value:6.3g} {score.unit}: {score.verdict}")
            elif each.asked:
                lines.append(f"{each.title:36} {score.missing}")
        return "\n".join([*lines, *(f"note: {each}" for each in self.notes)])


def _named(adapter: Adapter) -> dict[str, Plain]:
    return {
        "name": adapter.name,
        "fingerprint": adapter.fingerprint,
        "family": adapter.family,
        "trigger": adapter.trigger,
    }


def _plain(value: object) -> Plain:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    assert isinstance(value, int | float)
    return value
