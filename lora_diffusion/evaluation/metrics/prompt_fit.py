"""Do the pictures still show what was asked for?"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.evidence import BASE, Drawn, Evidence, Question
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.score import Score, missing

__all__ = ["PromptFit", "margins"]

_RIVALS = 5
"""Other prompts that a picture's own has to beat."""
_BANDS, _DRAWS = (1, 2), 2
"""Noise levels and draws for each: shapes are decided there (Li et al. 2023 find the middle to be the best)."""


class PromptFit(Metric):
    name: ClassVar[str] = "prompt_fit"
    title: ClassVar[str] = "Prompt fit"
    means: ClassVar[str] = (
        "Whether the pictures still show what was asked for. The base model alone guesses which of several prompts a "
        "picture was drawn by; 100 is guessed as well as from its own pictures, 0 is guessed blindly. Higher is better."
    )
    place: ClassVar[int] = 20

    def measure(self, evidence: Evidence) -> Score:
        if len(evidence.prompts) < 2:
            return missing("a single prompt has none that it could be taken for; give more")
        own = margins(evidence, evidence.base)
        chance = 1 / (1 + min(_RIVALS, len(evidence.prompts) - 1))
        known = float((own > 0).mean())
        if known < chance + 0.25 * (1 - chance):
            return missing("the base model does not tell these prompts apart in its own pictures")
        found = {weight: margins(evidence, drawn) for weight, drawn in evidence.sweep.items()}
        shares = {weight: float((each > 0).mean()) for weight, each in found.items()}
        by_weight = {
            weight: float(np.clip(100 * (share - chance) / (known - chance), 0, 100))
            for weight, share in shares.items()
        }
        value = by_weight[evidence.strongest]
        return Score(
            value=value,
            unit="of 100",
            verdict=_verdict(value, evidence.strongest),
            tone="good" if value >= 80 else "warns" if value >= 60 else "bad",
            by_weight=by_weight,
            details={
                "guessed_right": {f"{weight:g}": share for weight, share in shares.items()},
                "guessed_right_from_the_base": known,
                "guessed_right_by_chance": chance,
                "margin": {f"{weight:g}": float(each.mean()) for weight, each in found.items()},
                "margin_of_the_base": float(own.mean()),
            },
        )


def margins(evidence: Evidence, drawn: Sequence[Drawn]) -> Array:
    """Return by how much a picture's own prompt explains it better than the best other one, relative, [n].

    The loss of the base model is the (negative) evidence for a prompt: a diffusion classifier (Li et al. 2023).
    """
    questions, sizes = [], []
    for each in drawn:
        candidates = [each.prompt, *_rivals(each.prompt, len(evidence.prompts))]
        sizes.append(len(candidates))
        questions += [
            Question(picture=each.pixels, words=evidence.prompts[index].content, band=band, draw=draw)
            for index in candidates
            for band in _BANDS
            for draw in range(_DRAWS)
        ]
    losses = evidence.denoiser.losses(BASE, questions).reshape(-1, len(_BANDS) * _DRAWS).mean(axis=1)
    result, start = [], 0
    for size in sizes:
        own, *others = losses[start : start + size]
        result.append((min(others) - own) / max(own, 1e-12))
        start += size
    return np.array(result)


def _rivals(prompt: int, count: int) -> list[int]:
    """Return the prompts that follow, around the end."""
    return [(prompt + step) % count for step in range(1, min(_RIVALS, count - 1) + 1)]


def _verdict(value: float, weight: float) -> str:
    if value >= 95:
        return f"At {weight:.0%} prompts are followed as well as without the adapter."
    if value >= 80:
        return f"At {weight:.0%} prompts are followed nearly as well as without the adapter."
    if value >= 60:
        return f"At {weight:.0%} prompts are followed less: look at the pictures before you use them."
    return f"At {weight:.0%} the pictures no longer show what was asked for."
