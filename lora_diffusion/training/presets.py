"""Plans that suit a base model and a set of pictures, in three qualities: what to begin with when nothing is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import UsageError
from lora_diffusion.training.plan import TrainPlan

__all__ = ["QUALITIES", "Quality", "suggest_plan"]

Quality = Literal["quick", "balanced", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

FEWEST_LOOKS, MOST_LOOKS = 10, 400
"""Looks at each picture between which `check` finds nothing odd."""

PREVIEWS = 6
"""During a run: enough to see a style come, few enough that drawing takes under a tenth of the time."""


@dataclass(frozen=True, kw_only=True)
class _Preset:
    """What one quality takes on one kind of base model; a resolution of 0 is the base model's own."""

    steps: int
    rank: int
    lr: float
    batch_size: int = 1
    resolution: int = 0
    targets: tuple[str, ...] = ("attention",)
    caption_dropout: float = 0.05
    gradient_checkpointing: bool = False
    preview_steps: int = 20


def _demo(steps: int) -> _Preset:
    """Values of configs/demo.toml; 2e-3 leaves colours half-way, and the text encoder helps the style arrive."""
    return _Preset(
        steps=steps,
        rank=8,
        lr=4e-3,
        batch_size=8,
        targets=("attention", "text"),
        caption_dropout=0.1,
        preview_steps=12,
    )


_DEMO: dict[Quality, _Preset] = {"quick": _demo(120), "balanced": _demo(420), "best": _demo(800)}

_PLAIN: dict[Quality, _Preset] = {  # configs/sd15-style.toml; 1e-4 is the field's rate wherever alpha = rank
    "quick": _Preset(steps=500, rank=8, lr=1e-4),
    "balanced": _Preset(steps=1500, rank=16, lr=1e-4),
    "best": _Preset(steps=3000, rank=32, lr=1e-4),
}

_SDXL: dict[Quality, _Preset] = {  # configs/sdxl-style.toml; 768 takes half the time of 1024 and still looks like it
    "quick": _Preset(steps=500, rank=8, lr=1e-4, resolution=768, gradient_checkpointing=True),
    "balanced": _Preset(steps=1500, rank=16, lr=1e-4, gradient_checkpointing=True),
    "best": _Preset(steps=3000, rank=32, lr=1e-4, gradient_checkpointing=True),
}


def suggest_plan(
    *,
    data: str,
    base: str = "demo",
    quality: str = "balanced",
    family: str = "auto",
    name: str = "",
    trigger: str = "",
    out: str = "runs/style",
) -> TrainPlan:
    """Return a plan for a folder of pictures (or demo:NAME) on a base model.

    Steps are those of the quality, as far as each picture gets 10 to 400 looks. With `family` the base model's files
    are not asked. Raises UsageError for an unknown quality, NoImages where the folder is missing, BaseNotFound.
    """
    preset = _preset(base, family, quality)
    steps = _steps(preset, _count(data))
    every = max(1, steps // PREVIEWS)
    sections = {
        "base": {"path": base},
        "adapter": {"name": name, "rank": preset.rank, "targets": preset.targets},
        "data": {
            "folder": data,
            "trigger": trigger,
            "caption_dropout": preset.caption_dropout,
            "resolution": preset.resolution,
        },
        "optim": {"lr": preset.lr},
        "previews": {"every": every, "prompts": _prompts(trigger), "steps": preset.preview_steps},
        "run": {
            "out": out,
            "steps": steps,
            "batch_size": preset.batch_size,
            "gradient_checkpointing": preset.gradient_checkpointing,
            "snapshot_every": min(250, every),
        },
    }
    return TrainPlan.model_validate(sections)


def _preset(base: str, family: str, quality: str) -> _Preset:
    known = next((each for each in QUALITIES if each == quality), None)
    if known is None:
        raise UsageError(f"there is no quality {quality!r}", hint=f"choose one of {', '.join(QUALITIES)}")
    if base == "demo":
        return _DEMO[known]
    if family == "auto":
        from lora_diffusion.families import detect, locate

        family = detect(locate(base)).name
    return (_SDXL if family == "sdxl" else _PLAIN)[known]


def _count(data: str) -> int:
    """Return how many pictures are to be taught, without looking into them."""
    from datasets_tools.describing import describe_pictures

    return sum(not each.excluded for each in describe_pictures(Path(picture_folder(data))))


def _steps(preset: _Preset, pictures: int) -> int:
    if not pictures:
        return preset.steps
    fewest, most = (-(-looks * pictures // preset.batch_size) for looks in (FEWEST_LOOKS, MOST_LOOKS))
    return max(1, min(max(preset.steps, fewest), most - most % 10 or most))


def _prompts(trigger: str) -> tuple[str, ...]:
    """Return things that every base model can draw and that show line, colour and surface of a style."""
    things = ("a fox in a forest", "a house by the sea")
    return tuple(f"{trigger}, {thing}" if trigger else thing for thing in things)
