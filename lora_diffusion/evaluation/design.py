"""What is drawn for an evaluation."""

from dataclasses import asdict, dataclass
from itertools import pairwise

from lora_diffusion.errors import UsageError

__all__ = ["Design"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """The same design, adapter, base and pictures give the same figures on the same machine.

    `prompts` with `seeds` pictures each are drawn at every weight, in `steps` steps. Raises UsageError for what makes
    no sense.
    """

    weights: tuple[float, ...] = (0.4, 0.6, 0.8, 1.0, 1.2)
    """Beside the base model, which stands for 0. Below 0.4 styles hardly show, beyond 1.2 pictures break."""
    prompts: int = 12
    """With one picture each the share of prompts that are followed is known to about a tenth."""
    seeds: int = 1
    """Another prompt tells more than another picture of the same."""
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.weights or any(not 0 < weight <= 4 for weight in self.weights):
            raise UsageError("weights to try lie above 0, up to 4", hint="the base model stands for 0; try 0.4,0.8,1.2")
        if any(one >= other for one, other in pairwise(self.weights)):
            raise UsageError("the weights to try do not ascend", hint="name each once, the smallest first")
        for name, value, most in (
            ("prompts", self.prompts, 64),
            ("seeds", self.seeds, 16),
            ("steps", self.steps, 1000),
        ):
            if not 1 <= value <= most:
                raise UsageError(f"{value} {name} are not possible", hint=f"use 1 to {most}")

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "weights": list(self.weights)}
