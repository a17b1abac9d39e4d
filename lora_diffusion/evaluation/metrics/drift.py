"""What happens to prompts that do not call the style."""

from typing import ClassVar

from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.response import difference
from lora_diffusion.evaluation.score import Score, missing

__all__ = ["Drift"]


class Drift(Metric):
    name: ClassVar[str] = "drift"
    title: ClassVar[str] = "Leaves other prompts alone"
    means: ClassVar[str] = (
        "How much pictures change whose prompt does not say the trigger, as a share of how much they change with it. "
        "Near 0 the trigger alone calls the style; near 100 it is always on while the adapter is loaded."
    )
    place: ClassVar[int] = 50

    def measure(self, evidence: Evidence) -> Score:
        if evidence.plain is None:
            return missing("the adapter names no trigger, so every prompt calls the style")
        without = difference(evidence.plain, evidence.base).mean()
        called = difference(evidence.sweep[evidence.strongest], evidence.base).mean()
        if called < 1e-6:
            return missing("the adapter changes nothing")
        value = float(100 * without / called)
        always = value > 60
        return Score(
            value=value,
            unit="% of the change",
            verdict=_ALWAYS if always else _CALLED,
            tone="warns" if always else "good",
            details={
                "change_without_trigger": float(without),
                "change_with_trigger": float(called),
            },
        )


_ALWAYS = "The style shows without its trigger too: load the adapter only where the style is wanted."
_CALLED = "Prompts without the trigger change little: the style comes when it is called."
