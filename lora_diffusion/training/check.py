"""Everything that can fail in a plan, found before training: data, base, memory, time, disk, settings."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from datasets_tools.bucket import BucketRule
from datasets_tools.caption_lint import Tokens
from datasets_tools.check import check_folder
from datasets_tools.errors import DatasetError
from datasets_tools.finding import Finding, blocks, warns
from datasets_tools.health import Report
from datasets_tools.journal import Journal
from datasets_tools.scan import Progress
from datasets_tools.storage import free_bytes, human_bytes
from lora_diffusion.adapters.methods import method
from lora_diffusion.devices import choose_device, choose_precision
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.families import detect, locate
from lora_diffusion.families.chunks import room, whole_chunks
from lora_diffusion.training.asking import FOLDER_GEOMETRY, data_settings, folder_rule, journal_path
from lora_diffusion.training.masks import mask_pixels
from lora_diffusion.training.plan import RunPlan, TrainPlan
from lora_diffusion.training.probe import LESS_MEMORY, Needs, OutOfMemory
from lora_diffusion.training.probe import probe as measure
from lora_diffusion.training.run import Run
from lora_diffusion.training.samples import (
    Finder,
    PictureSet,
    Sample,
    Sources,
    bucket_rule,
    bucket_rules,
    require_rights,
)

__all__ = ["check_plan"]

_SNAPSHOT_BYTES = 64 * 2**20  # an adapter of rank 16 with its optimiser state is 40 MB
_FEW, _MANY = 10, 400  # steps per picture between which style trainings of the field lie
_LEAST_RATE, _MOST_RATE = 1e-6, 1e-2
_ROOM = 0.9  # of the free memory: the rest is for the system while it trains


def check_plan(
    plan: TrainPlan, *, probe: bool = True, today: date | None = None, on_progress: Progress | None = None
) -> Report:
    """Check everything that a plan names: pictures, captions, rights, base model, memory, time, disk, settings.

    With `probe` a few steps are trained at the largest size in a process of its own (`Report.estimate`). Nothing is
    written beside the scan journal of a run folder that exists. Raises NoImages where data.folder does not exist.
    """
    base = _Base(plan)
    found = [*base.findings, *_about_settings(plan, base)]
    with _journal(plan) as journal:
        report = check_folder(
            picture_folder(plan.data.folder),
            data_settings(plan, base.rule),
            today=today,
            tokens=base.tokens,
            journal=journal,
            on_progress=on_progress,
        )
        sources, refused = _sources(plan, base, report, today, journal)
    found += [*refused, *_about_masks(sources), *_about_amount(plan, report.images), *_about_rate(plan)]
    estimate: dict[str, float] = {}
    if probe and sources and not any(finding.severity == "blocks" for finding in found):
        found += _measured(plan, sources, base.rules(plan), estimate)
    found += _about_disk(plan, estimate)
    return report.with_findings(dict.fromkeys(found), estimate)  # a setting may be refused at two places


class _Base:
    """What is known of a plan's base model without its weights; what is wrong with it is in `findings`."""

    def __init__(self, plan: TrainPlan) -> None:
        self.findings: list[Finding] = []
        self.tokens: Tokens | None = None
        self.step = 1
        geometry = FOLDER_GEOMETRY
        try:
            path = locate(plan.base.path)
            family = detect(path, plan.base.family)
            geometry = family.geometry(path)
            self.step = geometry[1]
            self.tokens = _tokens(family.tokenizers(path, named=plan.base.tokenizer), plan.data.max_tokens)
        except LoraDiffusionError as error:
            self.findings.append(blocks("base-missing", plan.base.path, str(error), error.hint))
        self.rule = folder_rule(plan, geometry)

    def rules(self, plan: TrainPlan) -> tuple[BucketRule, ...]:
        return bucket_rules(plan.data, resolution=self.rule.resolution, step=self.step)


@dataclass(frozen=True)
class _Tokenizer:
    """The tokenizer of a text encoder as `caption_lint` asks it, where so many tokens of a caption may be read."""

    tokenizer: Any
    max_tokens: int

    @property
    def limit(self) -> int:
        return whole_chunks(self.tokenizer, self.max_tokens) * room(self.tokenizer)

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [(start, end) for start, end in found["offset_mapping"]]


def _tokens(tokenizers: Mapping[str, Any], max_tokens: int) -> Tokens | None:
    """Return the tokenizer that reads least, where it can tell where its tokens lie in the text."""
    able = [_Tokenizer(each, max_tokens) for each in tokenizers.values() if each.is_fast]
    return min(able, key=lambda each: each.limit, default=None)


@contextmanager
def _journal(plan: TrainPlan) -> Iterator[Journal]:
    """Lend the journal of the plan's cache where a run or `prepare` began one, else one that is gone afterwards.

    A check begins nothing that lasts, but looks at the folders twice: as the data's judge and as training does.
    """
    place = journal_path(plan)
    if os.path.exists(place):  # unlike Path.exists it takes a name too long, which is refused elsewhere
        yield Journal(place)
        return
    with tempfile.TemporaryDirectory(prefix="lora-diffusion-check-") as temporary:
        yield Journal(Path(temporary) / "scan.jsonl")


def _about_settings(plan: TrainPlan, base: _Base) -> Iterator[Finding]:
    """Ask everything that refuses a plan before its first step and needs no weights."""
    asks = (
        lambda: method(plan.adapter.method),
        lambda: choose_precision(plan.run.precision, choose_device(plan.run.device)),
        lambda: Run.create(plan).require_writable(),
        lambda: bucket_rule(plan.data, resolution=plan.data.resolution or base.rule.resolution, step=base.step),
    )
    for ask in asks:
        try:
            ask()
        except (LoraDiffusionError, DatasetError) as error:
            yield blocks("plan-refused", "", str(error), error.hint)


def _sources(
    plan: TrainPlan, base: _Base, report: Report, today: date | None, journal: Journal
) -> tuple[Sources | None, list[Finding]]:
    """Find the pictures as training does; return them, or None where it refuses, and what it refuses or misses."""
    refused: list[Finding] = []
    if not report.sights:
        return None, refused  # the report says so
    told = {finding.code for finding in report.findings}

    def ask(find: Callable[[], PictureSet | None]) -> PictureSet | None:
        try:
            return find()
        except (LoraDiffusionError, DatasetError) as error:
            refused.append(blocks("plan-refused", "", str(error), error.hint))
            return None

    try:
        finder = Finder(plan=plan, rules=base.rules(plan), journal=journal)
    except (LoraDiffusionError, DatasetError) as error:
        return None, [blocks("plan-refused", "", str(error), error.hint)]
    style = ask(finder.style)  # its rights are told by picture in the report
    ordinary = ask(finder.regularisation)
    if ordinary is not None:
        ask(lambda: require_rights(ordinary, plan.data, today))
    held_out = None if "validation-missing" in told else ask(finder.validation)
    if style is None:
        return None, refused
    missing = [finding for finding in style.findings if finding.code == "mask-missing"]
    return Sources(style=style, regularisation=ordinary, validation=held_out), [*refused, *missing]


def _about_masks(sources: Sources | None) -> list[Finding]:
    """Look at every mask through every crop that it is used with; each that training refuses is a finding."""
    masked = [sample for sample in sources.style.samples if sample.mask] if sources else []
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="masks") as pool:  # decoding lets other threads run
        return [finding for finding in pool.map(_about_mask, masked) if finding is not None]


def _about_mask(sample: Sample) -> Finding | None:
    assert sample.mask is not None
    try:
        mask_pixels(sample.mask, sample.record, sample.crop)
    except (LoraDiffusionError, DatasetError) as error:
        return blocks("plan-refused", sample.record.file, str(error), error.hint)
    return None


def _measured(
    plan: TrainPlan, sources: Sources, rules: Sequence[BucketRule], estimate: dict[str, float]
) -> Iterator[Finding]:
    """Run the probe and fill `estimate`; what does not fit is a finding."""
    try:
        needs = measure(plan, sources, rules)
    except OutOfMemory as error:
        yield blocks("memory-short", "", str(error), error.hint)
        return
    except LoraDiffusionError as error:
        yield blocks("probe-failed", "", str(error), error.hint)
        return
    estimate.update(_estimate(plan, sources, needs))
    free = _free_memory(plan)
    if needs.peak_bytes > _ROOM * free:
        reason = f"training takes {human_bytes(needs.peak_bytes)} of memory, and {human_bytes(free)} are free"
        yield warns("memory-tight", "", reason, f"close other programs, or {LESS_MEMORY}")


def _estimate(plan: TrainPlan, sources: Sources, needs: Needs) -> dict[str, float]:
    """Return the numbers of the whole run.

    The time of a step or an encoding is taken as proportional to its pixels; the bytes of a picture are those at the
    largest size, which is never too few.
    """
    pixels = [sample.bucket.width * sample.bucket.height for sample in sources.style.samples]
    usual = sum(pixels) / len(pixels) / max(pixels)
    every = [sample for pictures in sources.sets for sample in pictures.samples]
    encoded = sum(len(each.views) * each.bucket.width * each.bucket.height for each in every) / max(pixels)
    return {
        "seconds_per_step": needs.seconds_per_step,
        "seconds": needs.start_seconds
        + needs.encode_seconds * encoded
        + needs.seconds_per_step * usual * plan.run.steps,
        "peak_bytes": needs.peak_bytes,
        "cache_bytes": needs.cache_bytes * sum(len(sample.views) for sample in every),
        "snapshot_bytes": needs.snapshot_bytes * _snapshots(plan.run),
    }


def _snapshots(plan: RunPlan) -> float:
    """Return how many snapshots there are room for: one while the oldest is still there, and a third per candidate,
    for the optimiser keeps two numbers beside each that is trained."""
    return plan.keep_snapshots + 1 + plan.candidates / 3


def _free_memory(plan: TrainPlan) -> int:
    import psutil
    import torch

    if choose_device(plan.run.device).type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    return int(psutil.virtual_memory().available)


def _about_disk(plan: TrainPlan, estimate: Mapping[str, float]) -> Iterator[Finding]:
    """Ask the disk of the run and that of the cache, which may be one."""
    run = Run(Path(plan.run.out), plan)
    snapshots = estimate.get("snapshot_bytes", _SNAPSHOT_BYTES * _snapshots(plan.run))
    parts = [
        ("run.out", "snapshots", run.folder, snapshots),
        ("data.cache", "encoded pictures", run.cache, estimate.get("cache_bytes", 0.0)),
    ]
    if _device(run.folder) == _device(run.cache):
        parts = [("run.out", "snapshots and encoded pictures", run.folder, sum(part[3] for part in parts))]
    for setting, what, folder, needed in parts:
        free = free_bytes(folder)
        if free < needed:
            reason = f"{what} need about {human_bytes(needed)}, and {human_bytes(free)} are free"
            yield blocks("disk-small", str(folder), reason, f"free some space or set {setting} to another disk")


def _device(folder: Path) -> int:
    """Return the disk of the nearest folder above that exists."""
    folder = folder.absolute()
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.stat(folder).st_dev


def _about_amount(plan: TrainPlan, images: int) -> Iterator[Finding]:
    each = plan.run.steps * plan.run.batch_size / max(1, images)
    if images and not _FEW <= each <= _MANY:
        reason = f"every picture is seen {each:{'.0f' if each >= 1 else '.1g'}} times; {_FEW} to {_MANY} is usual"
        wanted = round(images * (_FEW if each < _FEW else _MANY) / plan.run.batch_size)
        remedy = f"set run.steps to {'at least' if each < _FEW else 'at most'} {wanted}"
        yield warns("steps-per-image", "", reason, remedy)


def _about_rate(plan: TrainPlan) -> Iterator[Finding]:
    scale = (plan.adapter.alpha or plan.adapter.rank) / plan.adapter.rank
    rate = plan.optim.lr * scale
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        reason = f"learning rate times scale is {rate:.1g}; {_LEAST_RATE:g} to {_MOST_RATE:g} works"
        yield warns("rate-odd", "", reason, "change optim.lr or adapter.alpha")
