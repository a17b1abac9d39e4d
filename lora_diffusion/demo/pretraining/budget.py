"""A share of the time that a training stage may take, and the learning rate over it."""

import math
import time

__all__ = ["Budget"]


class Budget:
    """Starts to run when it is made."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.perf_counter()

    @property
    def progress(self) -> float:
        """Share of the time that is spent, 0..1."""
        return min(1.0, (time.perf_counter() - self._began) / self._seconds)

    def rate(self, step: int, *, warmup: int, hold: float) -> float:
        """Return the factor of the learning rate: a rise over `warmup` steps, level for the share `hold`, a cosine."""
        falling = max(0.0, self.progress - hold) / (1 - hold)
        return min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * falling)))
