"""Samplers by name: how the steps from noise to picture are taken.

The table is plain data; `sampler_for` alone needs diffusers. Noise schedule and prediction type are always the base's.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_diffusion.errors import UsageError

__all__ = ["Sampler", "find_sampler", "sampler_for", "samplers"]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A way to take the steps. `title` is how other programs write it, `says` when to take it, in plain words."""

    name: str
    title: str
    says: str
    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    most_steps: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options))


KARRAS_TOP = 40.0
"""Noise from which Karras steps begin where a base's own end has no signal at all (4096). On the embedded base and 10
steps the picture is 3.4 levels from that of 40 DDIM steps, 4.7 from 80 and 26 from the very end, where most steps are
spent on nothing."""

_DPM = "DPMSolverMultistepScheduler"
_TABLE = (
    Sampler(
        name="ddim",
        title="DDIM",
        says="plain and exact, the same picture for the same seed; 20 to 50 steps",
        scheduler="DDIMScheduler",
    ),
    Sampler(
        name="euler",
        title="Euler",
        says="plain, changes little between 20 and 50 steps",
        scheduler="EulerDiscreteScheduler",
    ),
    Sampler(
        name="euler_a",
        title="Euler a",
        says="adds fresh noise at each step: livelier, and another picture with another number of steps",
        scheduler="EulerAncestralDiscreteScheduler",
    ),
    Sampler(
        name="dpmpp_2m",
        title="DPM++ 2M",
        says="sharp in few steps: 15 to 25",
        scheduler=_DPM,
        options={"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    Sampler(
        name="dpmpp_2m_karras",
        title="DPM++ 2M Karras",
        says="as DPM++ 2M, with more of its steps on fine detail; the usual choice elsewhere",
        scheduler=_DPM,
        options={"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    Sampler(
        name="dpmpp_2m_sde",
        title="DPM++ 2M SDE",
        says="as DPM++ 2M with fresh noise at each step: richer textures, 20 to 40 steps",
        scheduler=_DPM,
        options={"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "use_karras_sigmas": False},
    ),
    Sampler(
        name="unipc",
        title="UniPC",
        says="good pictures in the fewest steps: 8 to 20",
        scheduler="UniPCMultistepScheduler",
        options={"use_karras_sigmas": False},
    ),
    Sampler(
        name="lcm",
        title="LCM",
        says="for bases and adapters that were made for 2 to 8 steps; take guidance 1 to 2",
        scheduler="LCMScheduler",
        most_steps=50,  # it draws from the 50 steps that such models were taught
    ),
)


def samplers() -> tuple[Sampler, ...]:
    """Return every sampler, the plain ones first. An empty name stands for the base model's own."""
    return _TABLE


def find_sampler(name: str) -> Sampler:
    """Return the sampler of that name, or of the title that other programs give it. Raises UsageError with the names.

    Titles are compared without case, so that settings from elsewhere ("DPM++ 2M Karras") can be used as they are.
    """
    wanted = " ".join(name.split()).casefold()
    for each in _TABLE:
        if wanted in (each.name, each.title.casefold()):
            return each
    names = [each.name for each in _TABLE]
    nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    meant = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UsageError(f"there is no sampler {name!r:.80}", hint=f"{meant}samplers are {', '.join(names)}")


def sampler_for(name: str, base: Any, *, steps: int) -> tuple[Any, str]:
    """Return a fresh scheduler with the settings of the base's scheduler, and the title of the sampler.

    An empty name gives a copy of the base's own. Raises UsageError for an unknown name, or more steps than it takes.
    """
    import copy

    import diffusers

    if not name:
        scheduler, title = copy.deepcopy(base), type(base).__name__.removesuffix("Scheduler")
    else:
        found = find_sampler(name)
        scheduler = getattr(diffusers, found.scheduler).from_config(base.config, **found.options)
        if found.options.get("use_karras_sigmas") and base.config.get("rescale_betas_zero_snr"):
            scheduler.register_to_config(sigma_max=KARRAS_TOP)
        title = found.title
        if steps > found.most_steps:
            raise _too_many(title, steps)
    scheduler.set_timesteps(steps)
    if max(scheduler.timesteps) >= scheduler.config.num_train_timesteps:  # an offset leads past the end of the noise
        raise _too_many(title, steps)
    return scheduler, title


def _too_many(title: str, steps: int) -> UsageError:
    return UsageError(f"{title} does not take {steps} steps on this base model", hint="lower the steps; 20 are usual")
