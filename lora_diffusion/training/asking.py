"""What a plan asks of the checks on its pictures. Needs no torch."""

from dataclasses import replace
from pathlib import Path

from datasets_tools.bucket import BucketRule
from datasets_tools.check import DataSettings
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import PlanError
from lora_diffusion.training.masks import ALPHA
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.run import Run
from lora_diffusion.training.samples import bucket_rule, rgb

__all__ = ["FOLDER_GEOMETRY", "data_settings", "folder_rule", "journal_path"]

FOLDER_GEOMETRY = (512, 64)
"""Resolution and bucket step in pixels where no base model is known: those of Stable Diffusion 1.5."""


def data_settings(plan: TrainPlan, rule: BucketRule) -> DataSettings:
    """Return what the checks on a plan's pictures depend on."""
    apart = [plan.data.regularisation, "" if plan.data.masks == ALPHA else plan.data.masks]
    return DataSettings(
        rule=rule,
        more_rules=tuple(replace(rule, resolution=each) for each in plan.data.more_resolutions),
        batch_size=plan.run.batch_size,
        trigger=plan.data.trigger,
        rights=plan.data.rights,
        background=rgb(plan.data.background),
        flip=plan.data.flip,
        validation=picture_folder(plan.validation.folder) if plan.validation.folder else None,
        skip=tuple(picture_folder(folder) for folder in apart if folder),
    )


def folder_rule(plan: TrainPlan, geometry: tuple[int, int]) -> BucketRule:
    """Return the bucket rule of a plan; a step that the base model does not allow is judged elsewhere."""
    resolution, step = geometry
    try:
        return bucket_rule(plan.data, resolution=resolution, step=step)
    except PlanError:
        return BucketRule(resolution=plan.data.resolution or resolution, step=plan.data.bucket_step)


def journal_path(plan: TrainPlan) -> Path:
    """Return where the scan journal of a plan lies: in the cache that its runs share."""
    return Run(Path(plan.run.out), plan).cache / "scan.jsonl"
