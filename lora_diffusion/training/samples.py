"""What a run is made of before anything is encoded: every picture at every size, with its caption, views and mask."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from datasets_tools.bucket import Bucket, BucketRule, Crop, bucket_for, crop_for
from datasets_tools.caption import with_trigger
from datasets_tools.journal import Journal
from datasets_tools.manifest import Manifest, Record, Rights
from datasets_tools.mask import mask_files, mask_name
from datasets_tools.scan import Progress, Scan, scan_folder
from datasets_tools.storage import sha256_file
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import PlanError
from lora_diffusion.training.plan import DataPlan, TrainPlan
from lora_diffusion.training.views import PLAIN, View, views_of

__all__ = [
    "MaskFile",
    "PictureSet",
    "Sample",
    "Sources",
    "bucket_rule",
    "bucket_rules",
    "load_sources",
    "rgb",
    "samples_of",
    "with_masks",
]

ALPHA = "alpha"
"""The value of data.masks that takes the transparency of the pictures themselves."""

_log = logging.getLogger("lora_diffusion")


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """Where the mask of a picture is: in a grey picture, or in the alpha channel of the picture itself."""

    path: Path
    sha256: str
    alpha: bool


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture at one size. `repeats` is how often an epoch shows it, `caption` the whole text, trigger included."""

    path: Path
    record: Record
    crop: Crop
    caption: str
    repeats: float = 1.0
    views: tuple[View, ...] = (PLAIN,)
    mask: MaskFile | None = None

    @property
    def bucket(self) -> Bucket:
        width, height = self.crop.size
        return Bucket(width=width, height=height)


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """The pictures of one folder and what is made of them."""

    manifest: Manifest
    samples: tuple[Sample, ...]

    @property
    def fingerprint(self) -> str:
        """Return a sha256 over the pictures, their captions, repeats and masks; sizes and views are the plan's."""
        masks = [each.mask and [each.mask.sha256, each.mask.alpha] for each in self.samples]
        rows = [[each.repeats, mask] for each, mask in zip(self.samples, masks, strict=True)]
        return hashlib.sha256(json.dumps([self.manifest.fingerprint, rows]).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The pictures of a run: of the style, ordinary ones that hold the base model where it is, and held-out ones."""

    style: PictureSet
    regularisation: PictureSet | None = None
    validation: PictureSet | None = None

    @property
    def fingerprint(self) -> str:
        """Return what the pictures decide of a training; validation decides nothing of it."""
        parts = [self.style.fingerprint, self.regularisation.fingerprint if self.regularisation else ""]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def sets(self) -> list[PictureSet]:
        return [each for each in (self.style, self.regularisation, self.validation) if each is not None]


def load_sources(
    plan: TrainPlan,
    *,
    resolution: int,
    step: int,
    today: date | None = None,
    journal: Journal | None = None,
    on_progress: Progress | None = None,
) -> Sources:
    """Scan every folder that a plan names. `resolution` and `step` are the base model's, in pixels.

    Broken files are named in the log and left out, never fatal for the rest; masks, ordinary and held-out pictures may
    lie inside the folder of the style. With data.rights=require the rights of whatever is trained on are compared with
    `today`. Pictures that the journal knows are not decoded. Raises PlanError, and NoImages for a folder without
    pictures.
    """
    data = plan.data
    rules = bucket_rules(data, resolution=resolution, step=step)
    look = partial(_scan, data=data, journal=journal, on_progress=on_progress)
    manifest = _of_style(look(data.folder, trigger=data.trigger, skip=_apart(plan)), data, today)
    style = samples_of(manifest, rules, data)
    ordinary = held_out = None
    if data.regularisation:
        found = look(data.regularisation, trigger="")
        _require_pictures(found, "data.regularisation")
        _require_rights(found.manifest, data, today)
        ordinary = PictureSet(manifest=found.manifest, samples=_plain_samples(found.manifest, rules[0], trigger=""))
    if plan.validation.folder:
        found = look(plan.validation.folder, trigger=data.trigger)
        _require_pictures(found, "validation.folder")
        samples = _plain_samples(found.manifest, rules[0], trigger=data.trigger)
        held_out = PictureSet(manifest=found.manifest, samples=samples)
    return Sources(
        style=PictureSet(manifest=manifest, samples=with_masks(style, data)),
        regularisation=ordinary,
        validation=held_out,
    )


def _of_style(found: Scan, data: DataPlan, today: date | None) -> Manifest:
    """Return the pictures of the style. Raises PlanError where they lack what the plan requires of them."""
    manifest = found.manifest
    if not manifest.records:
        raise PlanError(f"no picture in {data.folder} can be trained on", hint="run check on it: it names each reason")
    captioned = [record for record in manifest.records if _has_caption(found, record)]
    if not captioned and data.captions == "require":
        raise PlanError(
            f"none of the {len(manifest.records)} pictures in {data.folder} has a caption",
            hint="write what each shows into a .txt beside it, or set data.captions=optional and a data.trigger",
        )
    if not captioned and not data.trigger:
        raise PlanError("without captions nothing calls the style up", hint="set data.trigger to a word of your own")
    _require_rights(manifest, data, today)
    return manifest


def _require_pictures(found: Scan, setting: str) -> None:
    if not found.manifest.records:
        raise PlanError(
            f"no picture in {found.manifest.folder} can be used",
            hint=f"run check on it: it names each reason; or leave {setting} empty",
        )


def bucket_rule(data: DataPlan, *, resolution: int, step: int) -> BucketRule:
    """Return the bucket rule of a plan; what it leaves open is the base model's resolution and bucket step, in pixels.

    Raises PlanError where the plan's step is no multiple of the base model's, InvalidSetting where no size fits.
    """
    if data.bucket_step % step:
        raise PlanError(
            f"data.bucket_step {data.bucket_step} is no multiple of {step}, which this base model needs",
            hint="leave data.bucket_step at 0",
        )
    return BucketRule(
        resolution=data.resolution or resolution,
        step=data.bucket_step or step,
        min_side=data.min_side or None,
        max_side=data.max_side or None,
        upscale=data.upscale,
        crop_budget=BucketRule.crop_budget if data.crop_budget is None else data.crop_budget,
    )


def bucket_rules(data: DataPlan, *, resolution: int, step: int) -> tuple[BucketRule, ...]:
    """Return one bucket rule for each resolution that a plan trains at, its main one first. Raises as `bucket_rule`."""
    main = bucket_rule(data, resolution=resolution, step=step)
    return main, *(replace(main, resolution=each) for each in data.more_resolutions)


def samples_of(manifest: Manifest, rules: Sequence[BucketRule], data: DataPlan) -> tuple[Sample, ...]:
    """Return every picture at every resolution, sizes that come out equal once; without masks yet.

    Raises PlanError for a pattern of data.repeats that no picture matches.
    """
    repeats = _repeats(manifest, data.repeats)
    samples = {
        (record.file, crop.size): Sample(
            path=manifest.path(record),
            record=record,
            crop=crop,
            caption=with_trigger(record.caption, data.trigger),
            repeats=repeats[record.file],
            views=views_of(record.sha256, flip=data.flip, colour_jitter=data.colour_jitter),
        )
        for rule in rules
        for record in manifest.records
        for crop in [_crop(record, rule)]
    }
    return tuple(samples.values())


def rgb(colour: str) -> tuple[int, int, int]:
    """Return "#rrggbb" as three numbers of 0..255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _scan(
    folder: str,
    *,
    data: DataPlan,
    trigger: str,
    journal: Journal | None,
    on_progress: Progress | None,
    skip: Sequence[Path] = (),
) -> Scan:
    found = scan_folder(
        picture_folder(folder),
        trigger=trigger,
        background=rgb(data.background),
        skip=skip,
        journal=journal,
        on_progress=on_progress,
    )
    for finding in found.findings:
        if finding.severity == "blocks":
            _log.warning("%s is left out: %s (%s)", finding.file, finding.reason, finding.remedy)
    return found


def _has_caption(found: Scan, record: Record) -> bool:
    caption = found.captions.by_image.get(record.file)
    return caption is not None and bool(caption.text)


def _apart(plan: TrainPlan) -> list[Path]:
    named = [plan.data.regularisation, plan.validation.folder]
    if plan.data.masks != ALPHA:
        named.append(plan.data.masks)
    return [picture_folder(folder) for folder in named if folder]


def _require_rights(manifest: Manifest, data: DataPlan, today: date | None) -> None:
    if data.rights == "optional":
        return
    for record in manifest.records:
        rights = record.rights or Rights()
        if not (rights.owner or rights.licence or rights.consent):
            reason, remedy = "has no stated right", 'add "owner", "licence" or "consent" to its row in metadata.jsonl'
        elif today is not None and rights.expires and rights.expires < today.isoformat():
            reason, remedy = f"may not be used since {rights.expires}", "renew its rights or remove the picture"
        else:
            continue
        raise PlanError(f"{manifest.path(record)} {reason}, and data.rights is require", hint=remedy)


def _repeats(manifest: Manifest, wanted: Mapping[str, float]) -> dict[str, float]:
    chosen = {record.file: 1.0 for record in manifest.records}
    for pattern, times in wanted.items():
        matching = [file for file in chosen if _below(file, pattern) or fnmatchcase(file, pattern)]
        if not matching:
            folders = sorted({file.rpartition("/")[0] for file in chosen} - {""})
            there = f"folders there: {', '.join(folders)}" if folders else "it has no folders; patterns are like a*.png"
            raise PlanError(
                f"data.repeats names {pattern!r}, which no picture of {manifest.folder} matches", hint=there
            )
        chosen |= dict.fromkeys(matching, times)
    return {record.file: chosen[record.file] * record.repeats for record in manifest.records}


def _below(file: str, folder: str) -> bool:
    return file.startswith(f"{folder.strip('/')}/")


def _plain_samples(manifest: Manifest, rule: BucketRule, *, trigger: str) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            path=manifest.path(record),
            record=record,
            crop=_crop(record, rule),
            caption=with_trigger(record.caption, trigger),
            repeats=record.repeats,
        )
        for record in manifest.records
    )


def _crop(record: Record, rule: BucketRule) -> Crop:
    return crop_for(record.width, record.height, bucket_for(record.width, record.height, rule))


def with_masks(samples: tuple[Sample, ...], data: DataPlan) -> tuple[Sample, ...]:
    """Return the samples with the masks that data.masks names. Raises what a missing folder of masks raises."""
    find = _mask_finder(samples, data)
    return tuple(replace(sample, mask=find(sample)) for sample in samples)


def _mask_finder(samples: Sequence[Sample], data: DataPlan) -> Callable[[Sample], MaskFile | None]:
    if not data.masks:
        return lambda sample: None
    if data.masks == ALPHA:
        return lambda sample: MaskFile(path=sample.path, sha256=sample.record.sha256, alpha=True)
    files = mask_files(picture_folder(data.masks))
    found = {name: MaskFile(path=path, sha256=sha256_file(path), alpha=False) for name, path in files.items()}
    without = sorted({each.record.file for each in samples if mask_name(each.record.file) not in found})
    if without:
        _log.warning("no mask in %s for %s; all of each counts", data.masks, ", ".join(without))
    return lambda sample: found.get(mask_name(sample.record.file))
