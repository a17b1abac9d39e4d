"""Which weight to use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lora_diffusion.evaluation.score import Score

__all__ = ["SAME", "BestWeight", "best_weight"]

_FOLLOWED = 80.0
"""Prompt fit that a recommended weight has at least: four of five prompts that the base model follows."""
_STYLE = 40.0
"""Style match below which no weight is recommended: it is another style then."""
SAME = 3.0
"""Style matches so near to each other look the same; then the smaller weight leaves the base model more room."""


@dataclass(frozen=True, kw_only=True)
class BestWeight:
    """The weight to use and why; None where none can be recommended, with the reason."""

    value: float | None
    reason: str


def best_weight(scores: Mapping[str, Score], weights: Sequence[float]) -> BestWeight:
    """Return the weight with the best style match among those that follow prompts and copy no training picture."""
    style, fit, copies = (scores[name] for name in ("style_match", "prompt_fit", "memorisation"))
    if style.value is None:
        return BestWeight(value=None, reason=style.missing)
    copied = copies.details.get("copied_at", [])
    assert isinstance(copied, list)
    deaf = [weight for weight in weights if fit.by_weight.get(weight, 100.0) < _FOLLOWED]
    allowed = [weight for weight in weights if weight not in deaf and f"{weight:g}" not in copied]
    if not allowed:
        return BestWeight(value=None, reason=_none(len(deaf), len(copied), len(weights)))
    top = max(style.by_weight[weight] for weight in allowed)
    if top < _STYLE:
        return BestWeight(
            value=None, reason=f"at no weight is it the style of these pictures (at best {top:.0f} of 100)"
        )
    value = next(weight for weight in allowed if style.by_weight[weight] >= top - SAME)
    return BestWeight(value=value, reason=_why(value, style.by_weight, deaf, copied))


def _none(deaf: int, copied: int, tried: int) -> str:
    if copied == tried:
        return "training pictures are copied at every weight that was tried"
    if deaf == tried:
        return "prompts are not followed at any weight that was tried; try smaller ones"
    return "at every weight that was tried prompts are not followed or training pictures are copied"


def _why(value: float, style: Mapping[float, float], deaf: Sequence[float], copied: Sequence[object]) -> str:
    near = "as close to your pictures as they are to each other" if style[value] >= 95 else "close to your pictures"
    near = near if style[value] >= 70 else "only partly that of your pictures"
    reason = f"the style is {near} ({style[value]:.0f} of 100)"
    stronger = [weight for weight in style if weight > value]
    limits = []
    if lost := [weight for weight in stronger if weight in deaf]:
        limits.append(f"from {lost[0]:.0%} on prompts are followed less")
    if any(f"{weight:g}" in copied for weight in style):
        limits.append("at other weights training pictures are copied")
    if limits:
        return f"{reason}; {' and '.join(limits)}"
    if len(style) == 1:
        return reason
    return f"{reason}; more weight hardly gains" if stronger else f"{reason}, and it still grows with the weight"
