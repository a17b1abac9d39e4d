"""Does the adapter explain pictures of the style better than the base model does, also those it was not trained on?"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.evidence import BANDS, BASE, Evidence, Given, Mix, Question
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.score import Plain, Score, Tone, missing
from lora_diffusion.evaluation.statistics import interval

__all__ = ["HeldOut", "gains"]

_PICTURES = 24  # of each folder: two draws in four bands are then 192 answers, a second on the embedded base
_DRAWS = 2
_OVERFIT = 3.0
"""Gaining so many times as much on trained pictures as on others is overfitting; two is usual for small sets."""


class HeldOut(Metric):
    name: ClassVar[str] = "held_out_gain"
    title: ClassVar[str] = "Understands new pictures of the style"
    means: ClassVar[str] = (
        "By how many per cent the adapter lowers the error of the base model on pictures of the style that it was not "
        "trained on, with the same noise. Above 0 is good; far less than on its training pictures means that these "
        "were learnt by heart."
    )
    place: ClassVar[int] = 40

    def measure(self, evidence: Evidence) -> Score:
        if not evidence.held_out:
            return missing("give --held-out, a folder of pictures of the style that were not trained on")
        held_out = gains(evidence, evidence.held_out, Mix(adapter=1.0))
        training = gains(evidence, evidence.training, Mix(adapter=1.0)) if evidence.training else None
        value = float(held_out.mean())
        trained = None if training is None else float(training.mean())
        found = interval(held_out.mean(axis=1), seed=evidence.seed)
        sure = found is not None and found.certain
        verdict, tone = _verdict(value, trained, sure)
        return Score(
            value=value,
            unit="% less error",
            verdict=verdict,
            tone=tone,
            details={
                "interval": [found.low, found.high] if found else None,
                "by_band": _by_band(held_out),
                "training": trained,
                "training_by_band": None if training is None else _by_band(training),
                "training_minus_held_out": None if trained is None else trained - value,
                "pictures": len(held_out),
            },
        )


def gains(evidence: Evidence, pictures: Sequence[Given], mix: Mix) -> Array:
    """Return by how many per cent a mix lowers the loss of the base model, [pictures, bands]; noise is the same."""
    questions = [
        Question(picture=each.pixels, words=each.caption, band=band, draw=draw)
        for each in pictures[:_PICTURES]
        for band in range(len(BANDS))
        for draw in range(_DRAWS)
    ]
    before, after = (
        evidence.denoiser.losses(which, questions).reshape(-1, len(BANDS), _DRAWS).mean(axis=2) for which in (BASE, mix)
    )
    return np.asarray(100 * (before - after) / np.maximum(before, 1e-12))


def _by_band(found: Array) -> dict[str, Plain]:
    return {name: float(value) for name, value in zip(BANDS, found.mean(axis=0), strict=True)}


def _verdict(value: float, trained: float | None, sure: bool) -> tuple[str, Tone]:
    if not sure:
        return "On new pictures of the style no certain difference to the base model was found.", "plain"
    if value < 0:
        return "New pictures of the style are understood worse than without the adapter.", "bad"
    if trained is not None and trained > _OVERFIT * value:
        return "The training pictures were learnt by heart more than the style: train for fewer steps.", "warns"
    return f"New pictures of the style are understood better than without the adapter, by {value:.0f} %.", "good"
