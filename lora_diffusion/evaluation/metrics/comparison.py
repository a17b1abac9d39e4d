"""Which of two adapters does it better, and is that certain?"""

from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.closeness import Scale
from lora_diffusion.evaluation.evidence import Drawn, Evidence, Mix
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.metrics.held_out import gains
from lora_diffusion.evaluation.metrics.prompt_fit import margins
from lora_diffusion.evaluation.metrics.style import style_scale
from lora_diffusion.evaluation.score import Plain, Score, missing
from lora_diffusion.evaluation.statistics import Interval, interval

__all__ = ["Comparison"]


class Comparison(Metric):
    name: ClassVar[str] = "comparison"
    title: ClassVar[str] = "Against the other"
    means: ClassVar[str] = (
        "How much better this adapter is than the other on the same prompts and noise, both at full weight. The range "
        "is where the difference lies with 95 % certainty; only one that does not hold 0 is a verdict."
    )
    place: ClassVar[int] = 70
    asked: ClassVar[bool] = False

    def measure(self, evidence: Evidence) -> Score:
        if evidence.against is None or evidence.other is None:
            return missing("give --against, an adapter to compare with")
        differences = {
            name: each
            for name, each in (
                ("style match", _style(evidence, evidence.other)),
                ("prompt fit", _prompts(evidence, evidence.other)),
                ("grasp of new pictures", _held_out(evidence)),
            )
            if each is not None
        }
        found = {name: interval(each, seed=evidence.seed) for name, each in differences.items()}
        first = next(iter(differences), "")
        if not first:
            return missing("give --data, the folder of pictures that the style was trained on, or more prompts")
        sure = {name: each for name, each in found.items() if each is not None and each.certain}
        return Score(
            value=float(differences[first].mean()),
            unit=f"{first}, points",
            verdict=_verdict(sure, evidence.adapter.name, evidence.against.name),
            tone="plain",
            details={name: _said(differences[name], found[name]) for name in differences},
        )


def _style(evidence: Evidence, other: tuple[Drawn, ...]) -> Array | None:
    scale = style_scale(evidence)
    if not isinstance(scale, Scale):
        return None
    mine, theirs = (
        scale.score(scale.aspects([each.pixels for each in drawn]))
        for drawn in (evidence.sweep[evidence.strongest], other)
    )
    return _by_prompt(evidence, mine - theirs)


def _prompts(evidence: Evidence, other: tuple[Drawn, ...]) -> Array | None:
    if len(evidence.prompts) < 2:
        return None
    mine, theirs = (margins(evidence, drawn) for drawn in (evidence.sweep[evidence.strongest], other))
    return _by_prompt(evidence, 100 * (mine - theirs))


def _held_out(evidence: Evidence) -> Array | None:
    if not evidence.held_out:
        return None
    mine, theirs = (gains(evidence, evidence.held_out, mix).mean(axis=1) for mix in (Mix(adapter=1.0), Mix(other=1.0)))
    return np.asarray(mine - theirs)


def _by_prompt(evidence: Evidence, differences: Array) -> Array:
    """Pictures of one prompt are no independent cases: their mean is one."""
    prompts = np.array([each.prompt for each in evidence.base])
    return np.array([differences[prompts == index].mean() for index in range(len(evidence.prompts))])


def _said(differences: Array, found: Interval | None) -> Plain:
    return {
        "difference": float(differences.mean()),
        "interval": None if found is None else [found.low, found.high],
        "certain": found is not None and found.certain,
        "cases": len(differences),
    }


def _verdict(sure: dict[str, Interval], name: str, other: str) -> str:
    if not sure:
        return f"No certain difference between {name} and {other} was found."
    parts = [
        f"{name if each.mean > 0 else other} has the better {what} (by {abs(each.mean):.3g}, {_range(each)})"
        for what, each in sure.items()
    ]
    return f"It is certain that {', and that '.join(parts)}."


def _range(found: Interval) -> str:
    low, high = sorted((abs(found.low), abs(found.high)))
    return f"95 % range {low:.3g} to {high:.3g}"
