"""What a run is made of before anything is encoded: every picture at every size, with its caption, views and mask."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

from datasets_tools.bucket import Bucket, BucketRule, Crop, bucket_for, crop_for
from datasets_tools.caption import with_trigger
from datasets_tools.check import rights_problem
from datasets_tools.finding import Finding, warns
from datasets_tools.journal import Journal
from datasets_tools.manifest import Manifest, Record
from datasets_tools.scan import Progress, Scan, scan_folder
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import PlanError
from lora_diffusion.training.masks import ALPHA, MaskFile, masks_in
from lora_diffusion.training.plan import DataPlan, TrainPlan
from lora_diffusion.training.views import PLAIN, View, views_of

__all__ = [
    "Finder",
    "PictureSet",
    "Sample",
    "Sources",
    "bucket_rule",
    "bucket_rules",
    "load_sources",
    "require_not_withdrawn",
    "require_rights",
    "rgb",
    "samples_of",
]

_log = logging.getLogger("lora_diffusion")


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
    """The pictures of one folder, what is made of them, and what was found on the way."""

    manifest: Manifest
    samples: tuple[Sample, ...]
    findings: tuple[Finding, ...] = ()

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
    withdrawn: Mapping[str, str] | None = None,
    journal: Journal | None = None,
    on_progress: Progress | None = None,
) -> Sources:
    """Scan every folder that a plan names. `resolution` and `step` are the base model's, in pixels.

    Broken files are named in the log and left out, never fatal for the rest; masks, ordinary and held-out pictures may
    lie inside the folder of the style. With data.rights=require the rights of whatever is trained on are compared with
    `today`; `withdrawn` are the reasons, by SHA-256, why pictures may not be used at all. Pictures that the journal
    knows are not decoded. Raises PlanError, and NoImages for a folder without pictures.
    """
    finder = Finder(
        plan=plan,
        rules=bucket_rules(plan.data, resolution=resolution, step=step),
        journal=journal,
        on_progress=on_progress,
    )
    style, regularisation = finder.style(), finder.regularisation()
    for trained in (style, regularisation):
        if trained is not None:
            require_rights(trained, plan.data, today)
    sources = Sources(style=style, regularisation=regularisation, validation=finder.validation())
    for pictures in sources.sets:
        require_not_withdrawn(pictures, withdrawn or {})
        _log_findings(pictures)
    return sources


@dataclass(frozen=True, kw_only=True)
class Finder:
    """Finds the pictures of each folder that a plan names; every refusal is a PlanError or a DatasetError."""

    plan: TrainPlan
    rules: tuple[BucketRule, ...]
    journal: Journal | None = None
    on_progress: Progress | None = None

    def style(self) -> PictureSet:
        """Return the pictures of the style with their masks; pictures without one are findings "mask-missing"."""
        data = self.plan.data
        found = self._scan(data.folder, trigger=data.trigger, skip=_apart(self.plan))
        _require_pictures(found, "data.folder")
        _require_captions(found, data)
        samples = samples_of(found.manifest, self.rules, data)
        masks = _masks(found.manifest, data)
        return PictureSet(
            manifest=found.manifest,
            samples=tuple(replace(each, mask=masks.get(each.record.file)) for each in samples),
            findings=(*found.findings, *_about_masks(found.manifest, masks, data)),
        )

    def regularisation(self) -> PictureSet | None:
        """Return the ordinary pictures, which have no trigger."""
        return self._beside(self.plan.data.regularisation, "data.regularisation", trigger="")

    def validation(self) -> PictureSet | None:
        """Return the held-out pictures."""
        return self._beside(self.plan.validation.folder, "validation.folder", trigger=self.plan.data.trigger)

    def _beside(self, folder: str, setting: str, *, trigger: str) -> PictureSet | None:
        if not folder:
            return None
        found = self._scan(folder, trigger=trigger)
        _require_pictures(found, setting)
        samples = _plain_samples(found.manifest, self.rules[0], trigger=trigger)
        return PictureSet(manifest=found.manifest, samples=samples, findings=found.findings)

    def _scan(self, folder: str, *, trigger: str, skip: Sequence[Path] = ()) -> Scan:
        return scan_folder(
            picture_folder(folder),
            trigger=trigger,
            background=rgb(self.plan.data.background),
            skip=skip,
            journal=self.journal,
            on_progress=self.on_progress,
        )


def require_rights(pictures: PictureSet, data: DataPlan, today: date | None) -> None:
    """Raise PlanError for the first picture that data.rights=require does not let a training use.

    A date of expiry that cannot be read refuses too: as no date at all it would never expire.
    """
    if data.rights == "optional":
        return
    manifest = pictures.manifest
    for finding in pictures.findings:
        if finding.code == "rights-date":
            where = manifest.folder / finding.file
            raise PlanError(f"{where}: {finding.reason}, and data.rights is require", hint=finding.remedy)
    for record in manifest.records:
        problem = rights_problem(record.rights, today)
        if not problem:
            continue
        if problem == "missing":
            reason, remedy = "has no stated right", 'add "owner", "licence" or "consent" to its row in metadata.jsonl'
        else:
            expired = record.rights.expires if record.rights else ""
            reason, remedy = f"may not be used since {expired}", "renew its rights or remove the picture"
        raise PlanError(f"{manifest.path(record)} {reason}, and data.rights is require", hint=remedy)


def require_not_withdrawn(pictures: PictureSet, withdrawn: Mapping[str, str]) -> None:
    """Raise PlanError for the first picture that nobody may use any more; `withdrawn` are the reasons by SHA-256."""
    for record in pictures.manifest.records:
        if record.sha256 in withdrawn:
            raise PlanError(
                f"{record.file} may no longer be used: {' '.join(withdrawn[record.sha256].split())}",
                hint="leave it out and train anew; what was saved stays",
            )


def _require_captions(found: Scan, data: DataPlan) -> None:
    records = found.manifest.records
    if any(_has_caption(found, record) for record in records):
        return
    if data.captions == "require":
        raise PlanError(
            f"none of the {len(records)} pictures in {data.folder} has a caption",
            hint="write what each shows into a .txt beside it, or set data.captions=optional and a data.trigger",
        )
    if not data.trigger:
        raise PlanError("without captions nothing calls the style up", hint="set data.trigger to a word of your own")


def _require_pictures(found: Scan, setting: str) -> None:
    if not found.manifest.records:
        raise PlanError(
            f"no picture in {found.manifest.folder}, which {setting} names, can be used",
            hint="run check on that folder: it names each reason",
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

    data.repeats overrides the number of a folder named `10_name`.

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


def _has_caption(found: Scan, record: Record) -> bool:
    caption = found.captions.by_image.get(record.file)
    return caption is not None and bool(caption.text)


def _apart(plan: TrainPlan) -> list[Path]:
    named = [plan.data.regularisation, plan.validation.folder]
    if plan.data.masks != ALPHA:
        named.append(plan.data.masks)
    return [picture_folder(folder) for folder in named if folder]


def _repeats(manifest: Manifest, wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the looks per epoch of each picture: what the plan says, else the number of a folder named `10_name`."""
    chosen = {record.file: record.repeats for record in manifest.records}
    for pattern, times in wanted.items():
        matching = [file for file in chosen if _below(file, pattern) or fnmatchcase(file, pattern)]
        if not matching:
            folders = sorted({file.rpartition("/")[0] for file in chosen} - {""})
            there = f"folders there: {', '.join(folders)}" if folders else "it has no folders; patterns are like a*.png"
            raise PlanError(
                f"data.repeats names {pattern!r}, which no picture of {manifest.folder} matches", hint=there
            )
        chosen |= dict.fromkeys(matching, times)
    return chosen


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


def _masks(manifest: Manifest, data: DataPlan) -> dict[str, MaskFile]:
    if not data.masks:
        return {}
    if data.masks == ALPHA:
        return {
            each.file: MaskFile(path=manifest.path(each), sha256=each.sha256, alpha=True) for each in manifest.records
        }
    return masks_in(data.masks, [record.file for record in manifest.records])


def _about_masks(manifest: Manifest, masks: Mapping[str, MaskFile], data: DataPlan) -> Iterator[Finding]:
    if not data.masks:
        return
    for record in manifest.records:
        if record.file not in masks:
            reason = f"no mask in {picture_folder(data.masks).name} is named like it; all of it counts"
            yield warns("mask-missing", record.file, reason, "paint one, or leave it if all of it should count")


def _log_findings(pictures: PictureSet) -> None:
    for finding in pictures.findings:
        if finding.severity == "blocks":
            _log.warning("%s is left out: %s (%s)", finding.file, finding.reason, finding.remedy)
    without = [finding.file for finding in pictures.findings if finding.code == "mask-missing"]
    if without:
        _log.warning("no mask for %s; all of each counts", ", ".join(without))
