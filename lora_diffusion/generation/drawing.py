"""What happens between the steps of a picture: weights that follow a schedule, reports, previews, the wish to stop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from lora_diffusion.generation.preview import Preview
from lora_diffusion.generation.schedule import Schedule
from lora_diffusion.generation.stopping import Stop, require_going

__all__ = ["Following", "OnPreview", "OnStep"]

OnStep = Callable[[int, int], None]
"""Called after each step with the number of steps done and of all."""

OnPreview = Callable[[int, list[Image.Image]], None]
"""Called with the number of steps done and one small picture for each that is being drawn."""


@dataclass(kw_only=True)
class Following:
    """Follows one run of a pipeline; an instance is what it calls at the end of each step.

    `weigh` is told the factor of each adapter that has a schedule, where one changed. `begin` comes before the steps.
    """

    steps: int
    scheduler: Any
    schedules: Mapping[str, Schedule]
    weigh: Callable[[Mapping[str, float]], None]
    on_step: OnStep | None
    on_preview: OnPreview | None
    preview: Preview | None
    preview_every: int
    stop: Stop | None
    _factors: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        require_going(self.stop)
        self._weigh(0)

    def __call__(self, pipeline: object, step: int, timestep: object, values: dict[str, Any]) -> dict[str, Any]:
        done = step + 1
        if self.on_step:
            self.on_step(done, self.steps)
        if self.on_preview and self.preview and done < self.steps and done % self.preview_every == 0:
            self.on_preview(done, self.preview(self.scheduler.denoised))
        require_going(self.stop)
        if done < self.steps:
            self._weigh(done)
        return values

    def _weigh(self, step: int) -> None:
        now = {name: schedule.at(step, self.steps) for name, schedule in self.schedules.items()}
        changed = {name: factor for name, factor in now.items() if self._factors.get(name, 1.0) != factor}
        if changed:
            self._factors |= changed
            self.weigh(changed)
