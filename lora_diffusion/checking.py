"""Check pictures or a plan before training. A folder alone is judged without torch and without a base model."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from datasets_tools.check import check_folder
from datasets_tools.health import Report
from datasets_tools.scan import Progress
from lora_diffusion.embedded import picture_folder
from lora_diffusion.settings import from_toml
from lora_diffusion.training.asking import FOLDER_GEOMETRY, data_settings, folder_rule
from lora_diffusion.training.plan import TrainPlan

__all__ = ["check_source", "folder_plan"]


def check_source(
    source: str,
    overrides: Sequence[str] = (),
    *,
    probe: bool = True,
    today: date | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Check a plan (.toml) with everything that it names, or a folder of pictures.

    Args:
        source: a plan, a folder, or "demo:NAME".
        overrides: `section.key=value`; for a folder `key=value` means its data section, and with `base.path` it is
            checked like a plan.
        probe: measure time and memory by a few real steps, where there is a base model.
        today: the day that rights' expiry dates are compared with.

    Raises PlanError or NoImages where the request itself is wrong; everything else is a finding.
    """
    plan = from_toml(TrainPlan, Path(source), overrides) if source.endswith(".toml") else folder_plan(source, overrides)
    if plan.base.path:
        from lora_diffusion.training.check import check_plan

        return check_plan(plan, probe=probe, today=today, on_progress=on_progress)
    settings = data_settings(plan, folder_rule(plan, FOLDER_GEOMETRY))
    return check_folder(picture_folder(plan.data.folder), settings, today=today, on_progress=on_progress)


def folder_plan(folder: str, overrides: Sequence[str]) -> TrainPlan:
    """Return a plan for a folder of pictures without a base model; keys without a section are of the data section."""
    full = [each if "." in each.partition("=")[0] else f"data.{each}" for each in overrides]
    return from_toml(TrainPlan, None, ["base.path=", f"data.folder={folder}", *full])
