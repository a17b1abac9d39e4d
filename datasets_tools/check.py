"""Find everything in a folder that would make a training fail or suffer, before the first step."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datasets_tools.alike import leaks
from datasets_tools.bucket import Bucket, BucketRule, bucket_for, crop_for
from datasets_tools.caption import Caption, CaptionTable
from datasets_tools.caption_lint import Tokens, lint_captions, lint_trigger
from datasets_tools.compact import Computed
from datasets_tools.errors import NoImages
from datasets_tools.finding import Finding, blocks, notes, warns
from datasets_tools.health import Counts, Report, Sight, bucket_rows
from datasets_tools.judge import judge_pixels
from datasets_tools.manifest import Rights
from datasets_tools.scan import Progress, Scan, scan_folder

if TYPE_CHECKING:
    from datasets_tools.journal import Journal

__all__ = ["DataSettings", "RightsPolicy", "check_folder", "report_on", "rights_problem"]

RightsPolicy = Literal["optional", "require"]

_FEW = 8  # below it a style adapter copies its pictures instead of learning the look
_MOST_UPSCALE = 1.5  # beyond it Lanczos leaves a visible blur, which the adapter learns as part of the look
_LEAST_KEPT = 0.8  # a fifth of the picture gone is a subject cut off
_RIGHTS_REMEDY = 'state "owner", "licence" or "consent" in rights.csv; a row with file_name * speaks for all pictures'


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How pictures are going to be trained: what a check and a preparation of them depend on.

    Args:
        rule, batch_size, trigger, background, flip: as in a plan.
        more_rules: those of further resolutions that every picture is trained at as well.
        rights: "require" makes missing or expired rights block.
        validation: folder of pictures that are held out, to find those that training sees too.
        skip: folders inside the pictures' folder that hold something else (masks, regularisation).
    """

    rule: BucketRule = field(default_factory=BucketRule)
    more_rules: tuple[BucketRule, ...] = ()
    batch_size: int = 1
    trigger: str = ""
    rights: RightsPolicy = "optional"
    background: tuple[int, int, int] = (255, 255, 255)
    flip: bool = False
    validation: Path | None = None
    skip: tuple[Path, ...] = ()

    def scan(self, folder: Path, *, journal: "Journal | None" = None, on_progress: Progress | None = None) -> Scan:
        """Scan the pictures' folder as these settings say. Raises NoImages."""
        skip = [*self.skip, *([self.validation] if self.validation else [])]
        return scan_folder(
            folder,
            trigger=self.trigger,
            background=self.background,
            skip=skip,
            journal=journal,
            on_progress=on_progress,
        )


def check_folder(
    folder: Path | str,
    settings: DataSettings,
    *,
    today: date | None = None,
    tokens: Tokens | None = None,
    journal: "Journal | None" = None,
    on_progress: Progress | None = None,
) -> Report:
    """Look at every picture, caption and crop of a folder as training would.

    Args:
        today: the day that expiry dates are compared with; None compares nothing.
        tokens: the tokenizer of the base model's text encoder; without one only what is certain is said of lengths.
        journal: what earlier looks found; pictures it knows are not decoded again.
        on_progress: called with (done, total).

    Raises NoImages when the folder itself does not exist; everything else is a finding.
    """
    folder = Path(folder)
    try:
        scanned = settings.scan(folder, journal=journal, on_progress=on_progress)
    except NoImages as nothing:
        if not folder.is_dir():
            raise
        reason = str(nothing).replace(
            str(folder), folder.resolve().name
        )  # a report is mailed: no paths of this machine
        return Report.of(folder, [blocks("no-images", "", reason, nothing.hint)])
    return report_on(scanned, settings, today=today, tokens=tokens, journal=journal)


def report_on(
    scanned: Scan,
    settings: DataSettings,
    *,
    today: date | None = None,
    tokens: Tokens | None = None,
    journal: "Journal | None" = None,
) -> Report:
    """Judge what a scan found; arguments as for `check_folder`."""
    files = [seen.file for seen in scanned.pictures]
    sights = _sights(scanned, settings.rule)
    more = [_sights(scanned, rule) for rule in settings.more_rules]
    captions, rights = scanned.captions.by_image, scanned.captions.rights
    present = CaptionTable((file, one) for file in files if (one := captions.get(file)) is not None and one.text)
    problems = [rights_problem(rights.get(file), today) for file in files]
    findings = [
        *_stricter(scanned.findings, settings.rights),
        *_about_count(sights, scanned),
        *_about_presence(files, captions, settings.trigger),
        *lint_captions(present, trigger=settings.trigger, tokens=tokens or _Words()),
        *lint_trigger(settings.trigger, present, tokens),
        *(finding for seen in scanned.pictures for finding in judge_pixels(seen, flip=settings.flip)),
        *(finding for sight in sights for finding in _about_crop(sight)),
        *_about_buckets(sights, settings.batch_size),
        *(finding for each in more for finding in _about_buckets(each, settings.batch_size)),
        *_about_rights(dict(zip(files, problems, strict=True)), rights, settings.rights),
        *_about_validation(scanned, settings, journal),
    ]
    report = Report.of(
        scanned.manifest.folder,
        findings,
        sights,
        budget=settings.rule.budget,
        counts=_counts(scanned, files, len(present), Counter(problems), findings),
        palette=scanned.palette,
    )
    rows = [bucket_rows(each, rule.budget) for each, rule in zip(more, settings.more_rules, strict=True)]
    return replace(report, buckets=(*report.buckets, *(row for each in rows for row in each)))


def rights_problem(rights: Rights | None, today: date | None) -> str:
    """Return why a picture may not be used by what is stated: "missing", "expired", or "" where it may."""
    if rights is None or not (rights.owner or rights.licence or rights.consent):
        return "missing"
    return "expired" if today is not None and rights.expires and rights.expires < today.isoformat() else ""


class _Words:
    """Words and signs in place of tokens: every encoder makes at least one token of each."""

    limit = 225  # what training reads unless it is told otherwise: three times the 75 that CLIP reads at once

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        import re

        return [match.span() for match in re.finditer(r"\w+|[^\w\s]+", text)]


def _sights(scanned: Scan, rule: BucketRule) -> Sequence[Sight]:
    records, buckets = scanned.manifest.records, dict[Bucket, int]()
    chosen = array("I", (buckets.setdefault(bucket_for(*one.size, rule), len(buckets)) for one in scanned.pictures))
    named = list(buckets)

    def sight(index: int) -> Sight:
        record, bucket = records[index], named[chosen[index]]
        return Sight(record=record, bucket=bucket, crop=crop_for(record.width, record.height, bucket))

    return Computed(len(records), sight)


def _about_count(sights: Sequence[Sight], scanned: Scan) -> Iterator[Finding]:
    if not sights and scanned.captions.excluded and not any(one.severity == "blocks" for one in scanned.findings):
        yield blocks("no-images", "", "every picture is left out of training on request", "include some again")
    elif not sights:
        reason = "none of the pictures can be used"
        yield blocks("no-images", "", reason, "replace the unreadable files")
    elif len(sights) < _FEW:
        reason = f"{len(sights)} pictures: the adapter will copy them rather than learn the look"
        yield warns("few-images", "", reason, "add more; 15 to 40 different pictures work well")


def _about_presence(files: Sequence[str], captions: Mapping[str, Caption], trigger: str) -> Iterator[Finding]:
    missing = [file for file in files if file not in captions]
    then = f'the trigger "{trigger}" alone' if trigger else "no text at all"
    remedy = "write what the picture shows (not its style) into a .txt file of the same name"
    if missing and len(missing) == len(files):
        reason = f"no picture has a caption; all are trained with {then}, so a prompt has less say in what is drawn"
        yield warns("captions-none", "", reason, remedy)
        return
    for file in missing:
        yield warns("caption-missing", file, f"it has no caption and is trained with {then}", remedy)
    for file in files:
        caption = captions.get(file)
        if caption is not None and not caption.text:
            reason = f"{caption.source} is empty; the picture is trained with {then}"
            yield warns("caption-empty", file, reason, remedy)


def _about_crop(sight: Sight) -> Iterator[Finding]:
    record, bucket, crop = sight.record, sight.bucket, sight.crop
    size = f"{record.width} x {record.height}"
    if crop.upscale > _MOST_UPSCALE:
        reason = (
            f"{size} pixels are enlarged {crop.upscale:.1f} times to {bucket.width} x {bucket.height} and look soft"
        )
        yield warns("image-upscaled", record.file, reason, "use a larger version or a lower resolution")
    if crop.area_kept < _LEAST_KEPT:
        reason = f"{size} is cropped to {bucket.width} x {bucket.height}: {1 - crop.area_kept:.0%} of it is cut off"
        yield warns("crop-loses", record.file, reason, "crop it yourself around what matters")


def _about_buckets(sights: Sequence[Sight], batch_size: int) -> Iterator[Finding]:
    for bucket, count in sorted(Counter(sight.bucket for sight in sights).items()):
        if count < batch_size:
            what = "picture is" if count == 1 else "pictures are"
            size = f"{bucket.width} x {bucket.height}"
            reason = f"only {count} {what} trained at {size}, fewer than the batch size {batch_size}"
            remedy = (
                f"nothing is skipped: they form a smaller batch of {count}; crop them like the others for full batches"
            )
            yield warns("bucket-small", "", reason, remedy)


def _about_rights(problems: Mapping[str, str], rights: Mapping[str, Rights], policy: RightsPolicy) -> Iterator[Finding]:
    missing = [file for file, problem in problems.items() if problem == "missing"]
    if policy == "require":
        for file in missing:
            yield blocks("rights-missing", file, "nobody is stated who allows its use", _RIGHTS_REMEDY)
    elif missing and len(missing) == len(problems):
        yield notes("rights-missing", "", "no picture states who allows its use", _RIGHTS_REMEDY)
    else:
        for file in missing:
            yield notes("rights-missing", file, "nobody is stated who allows its use", _RIGHTS_REMEDY)
    judge = blocks if policy == "require" else warns
    for file, problem in problems.items():
        if problem == "expired":
            reason = f"its rights expired on {rights[file].expires}"
            yield judge("rights-expired", file, reason, "renew them or remove the picture")


def _stricter(findings: Sequence[Finding], policy: RightsPolicy) -> Iterator[Finding]:
    """Let a date that cannot be read block where rights are required: as no date at all it would never expire."""
    for finding in findings:
        yield replace(finding, severity="blocks") if policy == "require" and finding.code == "rights-date" else finding


def _about_validation(scanned: Scan, settings: DataSettings, journal: "Journal | None") -> Iterator[Finding]:
    if settings.validation is None:
        return
    name = settings.validation.name
    try:
        held_out = scan_folder(settings.validation, background=settings.background, journal=journal)
    except NoImages as nothing:
        yield blocks("validation-missing", "", f"for validation: {nothing}", nothing.hint)
        return
    yield from leaks(scanned.pictures, held_out.pictures, name)
    for finding in held_out.findings:
        if finding.severity == "blocks":
            yield warns("validation-unreadable", f"{name}/{finding.file}", finding.reason, finding.remedy)


def _counts(
    scanned: Scan, files: Sequence[str], captioned: int, rights: Mapping[str, int], findings: Collection[Finding]
) -> Counts:
    missing = sum(file not in scanned.captions.by_image for file in files)
    codes = Counter(finding.code for finding in findings)
    return Counts(
        captioned=captioned,
        caption_missing=missing,
        caption_empty=len(files) - missing - captioned,
        caption_orphans=codes["caption-orphan"],
        rights_stated=rights[""],
        rights_missing=rights["missing"],
        rights_expired=rights["expired"],
        excluded=len(scanned.captions.excluded),
        unreadable=codes["image-unreadable"],
    )
