"""A picture to start from instead of noise alone (Meng et al. 2021, "SDEdit").

The first steps are left out, and the picture enters where they would have led: with as much noise as that step has. The
pipeline is the one that draws from noise, so everything else (guidance that is scaled back, long prompts, schedules)
holds here too.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from datasets_tools.image import load_image, read_bytes, to_pixels
from lora_diffusion.errors import UsageError
from lora_diffusion.families.base import Components, Family

__all__ = ["Start", "begin_late", "fitting_size", "late_steps", "noised", "read_start"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """A picture to start from, the sha256 of its file, and how far to go from it.

    `strength` is the share of the steps that are taken: 0.3 keeps composition and colours, 1 keeps nothing. Raises
    UsageError for one that is not above 0 and at most 1.
    """

    image: Image.Image
    sha256: str
    strength: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(
                f"strength {self.strength} is out of range",
                hint="use above 0 to 1; 0.3 stays near the picture, 0.8 goes far",
            )


def read_start(path: Path, strength: float = 0.6) -> Start:
    """Read the picture to start from, upright in sRGB. Raises UnreadableImage, and UsageError for the strength."""
    data = read_bytes(path)
    return Start(image=load_image(data), sha256=hashlib.sha256(data).hexdigest(), strength=strength)


def fitting_size(image: Image.Image, *, resolution: int, step: int) -> tuple[int, int]:
    """Return the size to draw a picture at: its shape, about as many pixels as the base's square, sides in steps."""
    scale = resolution / math.sqrt(image.width * image.height)
    most = 4 * resolution  # a strip of 1000 x 1 would have no sides that can be drawn
    width, height = (min(most, max(step, round(side * scale / step) * step)) for side in image.size)
    return width, height


def late_steps(steps: int, strength: float) -> int:
    """Return how many of the steps are taken: at least one."""
    return max(1, min(steps, int(steps * strength)))


def begin_late(scheduler: Any, steps: int, strength: float) -> Any:
    """Let a scheduler take the last `late_steps` alone."""
    first = steps - late_steps(steps, strength)
    whole = scheduler.set_timesteps

    def set_timesteps(*inputs: Any, **options: Any) -> None:
        whole(*inputs, **options)
        scheduler.timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = scheduler.sigmas[first:]
        if hasattr(scheduler, "set_begin_index"):  # those that count their steps, instead of dividing the noise
            scheduler.set_begin_index(0)  # of what is left: two steps may share a rounded timestep
            scheduler.num_inference_steps = len(scheduler.timesteps)  # by which LCM knows its last step

    scheduler.set_timesteps = set_timesteps
    return scheduler


def noised(
    start: Start,
    *,
    family: Family,
    components: Components,
    scheduler: Any,
    size: tuple[int, int],
    steps: int,
    draws: Sequence[torch.Generator],
) -> Tensor:
    """Return the latents [n, c, h, w] that a pipeline starts from; the scheduler must begin late already.

    The picture is scaled and its middle taken where its shape is another.
    """
    fitted = ImageOps.fit(start.image, size, Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(to_pixels(fitted))
    latents = family.encode_images(components, pixels[None] if pixels.ndim == 3 else pixels)
    noise = torch.cat([torch.randn(latents.shape, generator=draw) for draw in draws]).to(latents.device)
    scheduler.set_timesteps(steps, device=latents.device)
    mixed: Tensor = scheduler.add_noise(latents.expand_as(noise), noise, scheduler.timesteps[:1].expand(len(noise)))
    scale = float(scheduler.init_noise_sigma)  # by which the pipeline multiplies again
    return (mixed / scale).to(components.dtype)
