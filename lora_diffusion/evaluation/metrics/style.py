"""Do the pictures look like those that the style was trained on?"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.closeness import Scale, scale_of
from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.score import Plain, Score, Tone, missing

__all__ = ["LEAST_PICTURES", "StyleMatch", "style_scale"]

LEAST_PICTURES = 4  # halves of two: below that a set cannot be compared with itself
_GOOD, _SOME = 70, 40


class StyleMatch(Metric):
    name: ClassVar[str] = "style_match"
    title: ClassVar[str] = "Style match"
    means: ClassVar[str] = (
        "How close colours, texture, fine detail and lines come to the pictures of the style: 0 is the base model "
        "without the adapter, 100 is as close as those pictures are to each other. Higher is better."
    )
    place: ClassVar[int] = 10

    def measure(self, evidence: Evidence) -> Score:
        scale = style_scale(evidence)
        if isinstance(scale, str):
            return missing(scale)
        by_weight, parts = {}, {}
        for weight, drawn in evidence.sweep.items():
            aspects = scale.aspects([each.pixels for each in drawn])
            by_weight[weight] = float(scale.score(aspects).mean())
            parts[weight] = aspects
        value = by_weight[evidence.strongest]
        found = parts[evidence.strongest]
        return Score(
            value=value,
            unit="of 100",
            verdict=_verdict(value, found, evidence.strongest),
            tone=_tone(value),
            by_weight=by_weight,
            details={"aspects": _aspects(scale, parts), "pictures_of_the_style": len(evidence.training or ())},
        )


def style_scale(evidence: Evidence) -> Scale | str:
    """Return the scale of the style's pictures, or why there is none."""
    if not evidence.training:
        return "give --data, the folder of pictures that the style was trained on"
    if len(evidence.training) < LEAST_PICTURES:
        return f"--data has {len(evidence.training)} of the {LEAST_PICTURES} pictures that it takes to compare them"
    pictures = [each.pixels for each in evidence.training]
    scale = scale_of(pictures, [each.pixels for each in evidence.base], seed=evidence.seed)
    return scale if scale.weights else "the base model already draws as these pictures look, so nothing is told apart"


def _aspects(scale: Scale, parts: Mapping[float, Mapping[str, Array]]) -> dict[str, Plain]:
    return {
        name: {
            "share": weight,
            "distance_of_the_base": scale.base[name],
            "distance_of_the_set_to_itself": scale.own[name],
            "by_weight": {f"{at:g}": float(found[name].mean()) for at, found in parts.items()},
        }
        for name, weight in scale.weights.items()
    }


def _tone(value: float) -> Tone:
    return "good" if value >= _GOOD else "warns" if value >= _SOME else "bad"


def _verdict(value: float, aspects: Mapping[str, Array], weight: float) -> str:
    at = f"At {weight:.0%}"
    if value >= 95:
        return f"{at} the style is as close to your pictures as they are to each other."
    worst = min(aspects, key=lambda name: float(np.mean(aspects[name])))
    if value >= _GOOD:
        return f"{at} the style is close to your pictures; what differs most is: {worst}."
    if value >= _SOME:
        return f"{at} the style is only partly that of your pictures; what differs most is: {worst}."
    return f"{at} the pictures do not look like yours; this is not the style of these pictures."
