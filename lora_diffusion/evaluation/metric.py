"""What a metric is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.score import Score

__all__ = ["Metric"]


class Metric(ABC):
    """One question about an adapter, with its answer as a figure. One class in each file of `metrics`."""

    name: ClassVar[str]
    """What it is called in JSON."""
    title: ClassVar[str]
    """What it is called on the page."""
    means: ClassVar[str]
    """What it measures and what is good, in words for somebody who has never trained a model."""
    place: ClassVar[int]
    """Where it stands on the page: lower comes first."""
    asked: ClassVar[bool] = True
    """Whether the page shows that it could not be measured; not for what nobody asked for."""

    @abstractmethod
    def measure(self, evidence: Evidence) -> Score:
        """Return the figure; where the evidence lacks what it needs, a score that is missing and says what to give."""
