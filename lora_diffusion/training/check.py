"""Everything that can fail in a plan, found without training: data, base, disk, settings that cannot work well."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets_tools.bucket import BucketRule
from datasets_tools.check import check_folder
from datasets_tools.finding import Finding, blocks, warns
from datasets_tools.health import Report
from datasets_tools.prepare import Prepared, prepare
from datasets_tools.storage import free_bytes, human_bytes
from lora_diffusion.adapters.methods import method
from lora_diffusion.devices import choose_device, choose_precision
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import LoraDiffusionError, UsageError
from lora_diffusion.families import detect, locate
from lora_diffusion.settings import from_toml
from lora_diffusion.training.data import bucket_rule, rgb
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.run import Run

__all__ = ["check_plan", "check_source", "prepare_folder"]

_FOLDER_RULE = BucketRule(resolution=512, step=64)
"""For a folder without a plan: what Stable Diffusion 1.5 trains at."""

_SNAPSHOT_BYTES = 64 * 2**20  # an adapter of rank 16 with its optimiser state is 40 MB
_FEW, _MANY = 10, 400  # steps per picture between which style trainings of the field lie
_LEAST_RATE, _MOST_RATE = 1e-6, 1e-2


def check_source(source: str, overrides: Sequence[str] = ()) -> Report:
    """Check a folder of pictures, or a plan with its pictures. Raises only where the request itself is wrong."""
    if not source.endswith(".toml"):
        if overrides:
            raise UsageError(
                f"{overrides[0]} belongs to a plan, and {source} is a folder", hint="name a plan, PLAN.toml"
            )
        return check_folder(picture_folder(source), rule=_FOLDER_RULE)
    return check_plan(from_toml(TrainPlan, Path(source), overrides))


def check_plan(plan: TrainPlan) -> Report:
    """Check everything that a plan names: pictures, captions, base model, disk, and settings that cannot work well."""
    report = check_folder(
        picture_folder(plan.data.folder), rule=_rule(plan), batch_size=plan.run.batch_size, trigger=plan.data.trigger
    )
    found = [
        *_about_base(plan),
        *_about_settings(plan),
        *_about_disk(plan),
        *_about_amount(plan, report.images),
        *_about_rate(plan),
    ]
    return report.with_findings(found)


def prepare_folder(folder: str, overrides: Sequence[str] = ()) -> Prepared:
    """Scan a folder and write its manifest; `key=value` are settings of a plan's data section."""
    full = [each if each.startswith("data.") else f"data.{each}" for each in overrides]
    plan = from_toml(TrainPlan, None, ["base.path=", f"data.folder={folder}", *full])
    rule = BucketRule(resolution=plan.data.resolution or 512, step=plan.data.bucket_step or 64)
    return prepare(
        picture_folder(plan.data.folder), rule=rule, trigger=plan.data.trigger, background=rgb(plan.data.background)
    )


def _rule(plan: TrainPlan) -> BucketRule:
    """Return the bucket rule of a plan; without a readable base what Stable Diffusion 1.5 would take."""
    try:
        path = locate(plan.base.path)
        geometry = detect(path, plan.base.family).geometry(path)
    except LoraDiffusionError:
        geometry = (_FOLDER_RULE.resolution, _FOLDER_RULE.step)
    return BucketRule(resolution=plan.data.resolution or geometry[0], step=plan.data.bucket_step or geometry[1])


def _about_base(plan: TrainPlan) -> Iterator[Finding]:
    try:
        detect(locate(plan.base.path), plan.base.family)
    except LoraDiffusionError as error:
        yield blocks("base-missing", plan.base.path, str(error), error.hint)


def _about_settings(plan: TrainPlan) -> Iterator[Finding]:
    """Ask everything that refuses a plan before its first step and needs no weights."""
    asks = (
        lambda: method(plan.adapter.method),
        lambda: choose_precision(plan.run.precision, choose_device(plan.run.device)),
        lambda: Run.create(plan),
        lambda: _require_step(plan),
    )
    for ask in asks:
        try:
            ask()
        except LoraDiffusionError as error:
            yield blocks("plan-refused", "", str(error), error.hint)


def _require_step(plan: TrainPlan) -> None:
    try:
        path = locate(plan.base.path)
        _, step = detect(path, plan.base.family).geometry(path)
    except LoraDiffusionError:
        return  # the base itself is another finding
    bucket_rule(plan.data, resolution=plan.data.resolution or step, step=step)


def _about_disk(plan: TrainPlan) -> Iterator[Finding]:
    needed = _SNAPSHOT_BYTES * (plan.run.keep_snapshots + 1)
    free = free_bytes(Path(plan.run.out))
    if free < needed:
        yield blocks(
            "disk-small",
            plan.run.out,
            f"snapshots need about {human_bytes(needed)}, and {human_bytes(free)} are free",
            "free some space or set run.out to another disk",
        )


def _about_amount(plan: TrainPlan, images: int) -> Iterator[Finding]:
    each = plan.run.steps * plan.run.batch_size / max(1, images)
    if images and not _FEW <= each <= _MANY:
        yield warns(
            "steps-per-image",
            "",
            f"every picture is seen {each:.0f} times; {_FEW} to {_MANY} is usual",
            "change run.steps",
        )


def _about_rate(plan: TrainPlan) -> Iterator[Finding]:
    scale = (plan.adapter.alpha or plan.adapter.rank) / plan.adapter.rank
    rate = plan.optim.lr * scale
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        yield warns(
            "rate-odd",
            "",
            f"learning rate times scale is {rate:.1g}; {_LEAST_RATE:g} to {_MOST_RATE:g} works",
            "change optim.lr or adapter.alpha",
        )
