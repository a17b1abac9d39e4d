"""Does the weight work as a dial?"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.response import difference
from lora_diffusion.evaluation.score import Score

__all__ = ["Response"]

_SLACK = 0.9
"""A change that falls by less than a tenth is still a dial: beyond its best weight a style saturates."""


class Response(Metric):
    name: ClassVar[str] = "response"
    title: ClassVar[str] = "Weight works as a dial"
    means: ClassVar[str] = (
        "How much the pictures change from those of the base model, in per cent of the range from black to white. It "
        "should grow with the weight, and weight 0 must be the base model to the bit."
    )
    place: ClassVar[int] = 60

    def measure(self, evidence: Evidence) -> Score:
        by_weight = {
            weight: float(100 * difference(drawn, evidence.base).mean())
            for weight, drawn in sorted(evidence.sweep.items())
        }
        grows = _grows(by_weight)
        good = grows and evidence.zero_is_base
        return Score(
            value=by_weight[evidence.strongest],
            unit="% changed",
            verdict=_verdict(grows, evidence.zero_is_base),
            tone="good" if good else "warns",
            by_weight=by_weight,
            details={"grows_with_the_weight": grows, "weight_0_is_the_base": evidence.zero_is_base},
        )


def _grows(by_weight: Mapping[float, float]) -> bool:
    changes = list(by_weight.values())
    return all(later > _SLACK * earlier for earlier, later in pairwise(changes))


def _verdict(grows: bool, zero_is_base: bool) -> str:
    if not zero_is_base:
        return (
            "At weight 0 the answers differ from those of the base model; that should be impossible, please report it."
        )
    if grows:
        return "The weight works as a dial: more of it is more of the style, and none is the base model exactly."
    return "More weight is not always more change: take a weight that was tried here."
