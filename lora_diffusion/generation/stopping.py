"""Stopping a picture that is being drawn."""

from collections.abc import Callable

from lora_diffusion.errors import LoraDiffusionError

__all__ = ["Interrupted", "Stop", "require_going"]

Stop = Callable[[], bool]
"""Says whether to stop. It is asked before the prompt is read, after every step, and before the picture is decoded."""


class Interrupted(LoraDiffusionError):
    """A picture was stopped at the caller's wish; the generator goes on as before."""


def require_going(stop: Stop | None) -> None:
    """Raise Interrupted where a stop was asked for."""
    if stop is not None and stop():
        raise Interrupted("stopped before the picture was done")
