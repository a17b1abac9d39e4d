"""Pictures drawn during training, with the same noise each time so that only the training differs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from datasets_tools.storage import replacing
from lora_diffusion.families.base import Components, Family
from lora_diffusion.training.plan import TrainPlan

__all__ = ["draw_previews"]


def draw_previews(
    plan: TrainPlan, family: Family, components: Components, captions: Sequence[str], folder: Path, step: int
) -> tuple[Path, ...]:
    """Draw the plan's prompts with the adapter as it is and return the files, one per prompt."""
    prompts = list(plan.previews.prompts or dict.fromkeys(captions[:2]))
    pipeline = family.pipeline(components)
    pipeline.set_progress_bar_config(disable=True)
    side = (plan.data.resolution or components.resolution) // components.bucket_step * components.bucket_step
    paths = []
    for place, prompt in enumerate(prompts):
        with torch.no_grad():
            drawn = pipeline(
                **family.prompt_arguments(components, [prompt], ""),
                width=side,
                height=side,
                num_inference_steps=plan.previews.steps,
                guidance_scale=components.guidance if plan.previews.guidance is None else plan.previews.guidance,
                guidance_rescale=components.guidance_rescale,
                generator=torch.Generator("cpu").manual_seed(plan.previews.seed + place),
            )
        path = folder / f"step-{step:08d}-{place}.png"
        with replacing(path) as aside:
            drawn.images[0].save(aside, format="PNG")
        paths.append(path)
    return tuple(paths)
