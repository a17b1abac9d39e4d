"""Do two adapters get in each other's way?"""

from typing import ClassVar

import numpy as np

from lora_diffusion.evaluation.evidence import BANDS, BASE, Evidence, Mix, Question
from lora_diffusion.evaluation.metric import Metric
from lora_diffusion.evaluation.score import Plain, Score, missing

__all__ = ["Blending"]

_PICTURES = 8
_LITTLE, _MUCH = 0.35, 0.7


class Blending(Metric):
    name: ClassVar[str] = "interference"
    title: ClassVar[str] = "Blends with the other"
    means: ClassVar[str] = (
        "How far both adapters together do something else than each of them adds alone, as a share of what they do. "
        "0 means that they add up, 1 that the blend is mostly something new. Lower is better for a blend."
    )
    place: ClassVar[int] = 80
    asked: ClassVar[bool] = False

    def measure(self, evidence: Evidence) -> Score:
        if evidence.against is None:
            return missing("give --against, an adapter to blend with")
        shown = evidence.base[:_PICTURES]
        questions = [
            Question(picture=each.pixels, words=evidence.prompts[each.prompt].full, band=band)
            for each in shown
            for band in range(len(BANDS))
        ]
        nothing, first, second, both = (
            evidence.denoiser.answers(mix, questions).astype(np.float64)
            for mix in (BASE, Mix(adapter=1.0), Mix(other=1.0), Mix(adapter=1.0, other=1.0))
        )
        extra = np.linalg.norm(both - first - second + nothing, axis=1)
        effect = np.linalg.norm(both - nothing, axis=1)
        if not effect.any():
            return missing("neither adapter changes anything")
        value = float(np.sqrt((extra**2).sum() / (effect**2).sum()))
        shares = np.sqrt((extra**2).reshape(-1, len(BANDS)).sum(0) / (effect**2).reshape(-1, len(BANDS)).sum(0))
        return Score(
            value=value,
            unit="of their effect",
            verdict=_verdict(value),
            tone="good" if value < _LITTLE else "warns" if value < _MUCH else "bad",
            details={
                "by_band": {name: float(share) for name, share in zip(BANDS, shares, strict=True)},
                "weights": _conflict(evidence),
            },
        )


def _conflict(evidence: Evidence) -> Plain:
    """What the weights alone say, as `lora-diffusion conflict` does."""
    from lora_diffusion.conflicts import VERDICTS, conflict

    assert evidence.against is not None
    shared = evidence.adapter.modules.keys() & evidence.against.modules.keys()
    if not shared:
        return None
    found = conflict(evidence.adapter, evidence.against).whole
    return {
        "cosine": found.cosine,
        "overlap": found.overlap,
        "overlap_by_chance": found.chance,
        "verdict": found.verdict,
        "meaning": VERDICTS[found.verdict],
    }


def _verdict(value: float) -> str:
    if value < _LITTLE:
        return "Together the two add up: both styles can be blended freely."
    if value < _MUCH:
        return "Together the two disturb each other in part: try lower weights for both."
    return "Together the two make something new rather than a mix: blend them only with low weights."
