"""Find everything in a folder that would make a training fail or suffer, before the first step."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from datasets_tools.bucket import Bucket, BucketRule, Crop, bucket_for, crop_for
from datasets_tools.common_words import is_common
from datasets_tools.errors import NoImages
from datasets_tools.finding import Finding, Severity
from datasets_tools.manifest import Record, Rights
from datasets_tools.scan import Progress, Scan, scan

__all__ = ["TITLES", "Finding", "Report", "RightsPolicy", "Sight", "check_folder", "title_of"]

RightsPolicy = Literal["optional", "require"]

_FEW = 8  # below it a style adapter copies its pictures instead of learning the look
_MOST_UPSCALE = 1.5  # beyond it Lanczos leaves a visible blur, which the adapter learns as part of the look
_LEAST_KEPT = 0.8  # a fifth of the picture gone is a subject cut off
_BLOCKS_COST = 51  # of 100 points: with one of these the score is below half, whatever else is fine
_WARNS_COST = 12  # where it concerns every picture; a part of the pictures costs a part, at least 30 %

TITLES = {
    "no-images": "No picture to train on",
    "image-unreadable": "Pictures that cannot be read",
    "folder-unreadable": "Folders that cannot be opened",
    "name-undecodable": "Names that are not text",
    "metadata-invalid": "Metadata that cannot be read",
    "caption-unreadable": "Captions that cannot be read",
    "rights-missing": "Pictures without stated rights",
    "rights-expired": "Pictures whose rights have expired",
    "few-images": "Few pictures",
    "captions-none": "No captions",
    "caption-missing": "Pictures without a caption",
    "caption-empty": "Empty captions",
    "captions-equal": "All captions are the same",
    "caption-conflict": "Two captions for one picture",
    "caption-orphan": "Captions without a picture",
    "caption-lines": "Captions of several lines",
    "trigger-none": "No trigger word",
    "trigger-common": "The trigger is an everyday word",
    "image-duplicate": "The same file twice",
    "image-near-duplicate": "Pictures that look the same",
    "image-tiny": "Tiny pictures",
    "image-upscaled": "Pictures smaller than the training size",
    "crop-loses": "Pictures that lose much to the crop",
    "bucket-small": "Sizes with few pictures",
    "image-icc-broken": "Damaged colour profiles",
    "image-cmyk-without-profile": "CMYK without a colour profile",
    "image-transparent": "Transparent pictures",
    "image-animated": "Moving pictures",
    "image-sixteen-bit": "16-bit pictures",
    "image-exif-broken": "Damaged EXIF data",
    "image-misnamed": "Names that say another format",
    "name-collision": "Names that collide on other systems",
    "link-refused": "Links that are not followed",
    "other-files": "Files that are not used",
}


def title_of(code: str) -> str:
    """Return the heading for findings of a code; codes of other packages read as their own words."""
    return TITLES.get(code, code.replace("-", " ").capitalize())


def _lower(title: str) -> str:
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One picture as training will see it."""

    record: Record
    bucket: Bucket
    crop: Crop


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found: a health score 0-100, the findings, and how each picture will be cut.

    `buckets` is (width, height, count), the largest group first; `reasons` say what cost points.
    """

    folder: Path
    score: int
    findings: tuple[Finding, ...]
    images: int
    buckets: tuple[tuple[int, int, int], ...]
    reasons: tuple[str, ...]
    sights: tuple[Sight, ...] = ()

    @property
    def blocked(self) -> bool:
        """Say whether a finding forbids training."""
        return any(finding.severity == "blocks" for finding in self.findings)

    def with_findings(self, more: Iterable[Finding]) -> "Report":
        """Return the report with further findings (of a plan, a base model), ranked and scored like its own."""
        return _report(self.folder, [*self.findings, *more], self.sights)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, as `check --json` prints it."""
        return {
            "folder": str(self.folder),
            "score": self.score,
            "blocked": self.blocked,
            "findings": [asdict(finding) for finding in self.findings],
            "images": self.images,
            "buckets": [{"width": width, "height": height, "count": count} for width, height, count in self.buckets],
            "reasons": list(self.reasons),
        }


def check_folder(
    folder: Path | str,
    *,
    rule: BucketRule,
    batch_size: int = 1,
    trigger: str = "",
    rights: RightsPolicy = "optional",
    today: date | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    on_progress: Progress | None = None,
) -> Report:
    """Look at every picture, caption and crop of a folder as training would.

    Args:
        rule, batch_size, trigger, background: as in the plan.
        rights: "require" makes missing or expired rights block.
        today: the day that expiry dates are compared with; None compares nothing.
        on_progress: called with (done, total).

    Raises NoImages when the folder itself does not exist; everything else is a finding.
    """
    folder = Path(folder)
    try:
        scanned = scan(folder, trigger=trigger, background=background, on_progress=on_progress)
    except NoImages as nothing:
        if not folder.is_dir():
            raise
        return _report(folder, [_finding("no-images", "blocks", "", str(nothing), nothing.hint)], ())
    sights = tuple(_sight(record, rule) for record in scanned.manifest.records)
    findings = [
        *scanned.findings,
        *_about_count(sights, scanned),
        *_about_captions(sights, scanned, trigger),
        *_about_trigger(trigger),
        *(finding for sight in sights for finding in _about_crop(sight)),
        *_about_buckets(sights, batch_size),
        *(finding for sight in sights for finding in _about_rights(sight.record, rights, today)),
    ]
    return _report(folder, findings, sights)


def _sight(record: Record, rule: BucketRule) -> Sight:
    bucket = bucket_for(record.width, record.height, rule)
    return Sight(record=record, bucket=bucket, crop=crop_for(record.width, record.height, bucket))


def _report(folder: Path, findings: Sequence[Finding], sights: tuple[Sight, ...]) -> Report:
    order: list[Severity] = ["blocks", "warns", "notes"]
    codes = {code: place for place, code in enumerate(TITLES)}  # a code from elsewhere comes first of its severity
    ranked = sorted(findings, key=lambda one: (order.index(one.severity), codes.get(one.code, -1), one.code))
    score, reasons = _score(ranked, len(sights))
    return Report(
        folder=folder,
        score=score,
        findings=tuple(ranked),
        images=len(sights),
        buckets=_counts(sights),
        reasons=reasons,
        sights=sights,
    )


def _counts(sights: Sequence[Sight]) -> tuple[tuple[int, int, int], ...]:
    counts = Counter(sight.bucket for sight in sights)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((bucket.width, bucket.height, count) for bucket, count in ranked)


def _score(findings: Sequence[Finding], images: int) -> tuple[int, tuple[str, ...]]:
    """Return 100 less what each kind of finding costs, and the costs in words."""
    lost: dict[str, float] = {}
    for code in dict.fromkeys(finding.code for finding in findings):
        same = [finding for finding in findings if finding.code == code]
        share = 1.0 if any(not finding.file for finding in same) else len(same) / max(images, 1)
        costs = {
            "blocks": _BLOCKS_COST if images else 100,
            "warns": _WARNS_COST * min(1.0, max(0.3, share)),
            "notes": 0,
        }
        lost[code] = costs[same[0].severity]
    score = round(max(0.0, 100 - sum(lost.values())))
    costly = sorted((item for item in lost.items() if item[1]), key=lambda item: -item[1])
    return score, tuple(f"-{points:.0f}: {_lower(title_of(code))}" for code, points in costly)


def _about_count(sights: Sequence[Sight], scanned: Scan) -> Iterator[Finding]:
    if not sights:
        reason = f"none of the pictures in {scanned.manifest.folder} can be read"
        yield _finding("no-images", "blocks", "", reason, "replace the unreadable files")
    elif len(sights) < _FEW:
        reason = f"{len(sights)} pictures: the adapter will copy them rather than learn the look"
        yield _finding("few-images", "warns", "", reason, "add more; 15 to 40 different pictures work well")


def _about_captions(sights: Sequence[Sight], scanned: Scan, trigger: str) -> Iterator[Finding]:
    captions = scanned.captions.by_image
    files = [sight.record.file for sight in sights]
    missing = [file for file in files if file not in captions]
    then = f'the trigger "{trigger}" alone' if trigger else "no text at all"
    remedy = "write what the picture shows (not its style) into a .txt file of the same name"
    if missing and len(missing) == len(files):
        reason = f"no picture has a caption; all are trained with {then}, so prompts will steer the adapter less"
        yield _finding("captions-none", "warns", "", reason, remedy)
        return
    for file in missing:
        yield _finding("caption-missing", "warns", file, f"it has no caption and is trained with {then}", remedy)
    for file in files:
        if file in captions and not captions[file].text:
            reason = f"{captions[file].source} is empty; the picture is trained with {then}"
            yield _finding("caption-empty", "warns", file, reason, remedy)
    texts = [captions[file].text for file in files if file in captions and captions[file].text]
    if len(texts) > 1 and len(set(texts)) == 1:
        reason = f'all {len(texts)} captions say "{texts[0][:80]}"'
        yield _finding(
            "captions-equal", "warns", "", reason, "say what each picture shows, so that the rest is the look"
        )


def _about_trigger(trigger: str) -> Iterator[Finding]:
    if not trigger.strip():
        reason = "without a trigger word the look appears in every picture made with the adapter"
        yield _finding("trigger-none", "notes", "", reason, "set data.trigger to a made-up word, if that is not wanted")
    elif is_common(trigger):
        reason = f'"{trigger}" has a meaning of its own, which mixes with the look'
        yield _finding("trigger-common", "warns", "", reason, 'use a made-up word, such as "brndx"')


def _about_crop(sight: Sight) -> Iterator[Finding]:
    record, bucket, crop = sight.record, sight.bucket, sight.crop
    size = f"{record.width} x {record.height}"
    if crop.upscale > _MOST_UPSCALE:
        reason = (
            f"{size} pixels are enlarged {crop.upscale:.1f} times to {bucket.width} x {bucket.height} and look soft"
        )
        yield _finding("image-upscaled", "warns", record.file, reason, "use a larger version or a lower resolution")
    if crop.area_kept < _LEAST_KEPT:
        reason = f"{size} is cropped to {bucket.width} x {bucket.height}: {1 - crop.area_kept:.0%} of it is cut off"
        yield _finding("crop-loses", "warns", record.file, reason, "crop it yourself around what matters")


def _about_buckets(sights: Sequence[Sight], batch_size: int) -> Iterator[Finding]:
    for width, height, count in _counts(sights):
        if count < batch_size:
            what = "picture is" if count == 1 else "pictures are"
            reason = f"only {count} {what} trained at {width} x {height}, fewer than the batch size {batch_size}"
            remedy = (
                f"nothing is skipped: they form a smaller batch of {count}; crop them like the others for full batches"
            )
            yield _finding("bucket-small", "warns", "", reason, remedy)


def _about_rights(record: Record, policy: RightsPolicy, today: date | None) -> Iterator[Finding]:
    rights = record.rights or Rights()
    severity: Severity = "blocks" if policy == "require" else "warns"
    if policy == "require" and not (rights.owner or rights.licence or rights.consent):
        remedy = 'add "owner", "licence" or "consent" to its row in metadata.jsonl'
        yield _finding("rights-missing", severity, record.file, "nobody is stated who allows its use", remedy)
    if today is not None and rights.expires and rights.expires < today.isoformat():
        reason = f"its rights expired on {rights.expires}"
        yield _finding("rights-expired", severity, record.file, reason, "renew them or remove the picture")


def _finding(code: str, severity: Severity, file: str, reason: str, remedy: str) -> Finding:
    return Finding(code=code, severity=severity, file=file, reason=reason, remedy=remedy)
