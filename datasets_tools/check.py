"""Find everything in a folder that would make a training fail or suffer, before the first step."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

from datasets_tools.bucket import BucketRule, bucket_for, crop_for
from datasets_tools.common_words import is_common
from datasets_tools.errors import NoImages
from datasets_tools.finding import Finding, blocks, notes, warns
from datasets_tools.health import Report, Sight
from datasets_tools.manifest import Record, Rights
from datasets_tools.scan import Progress, Scan, scan

__all__ = ["RightsPolicy", "check_folder"]

RightsPolicy = Literal["optional", "require"]

_FEW = 8  # below it a style adapter copies its pictures instead of learning the look
_MOST_UPSCALE = 1.5  # beyond it Lanczos leaves a visible blur, which the adapter learns as part of the look
_LEAST_KEPT = 0.8  # a fifth of the picture gone is a subject cut off


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
        return Report.of(folder, [blocks("no-images", "", str(nothing), nothing.hint)])
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
    return Report.of(folder, findings, sights, budget=rule.budget)


def _sight(record: Record, rule: BucketRule) -> Sight:
    bucket = bucket_for(record.width, record.height, rule)
    return Sight(record=record, bucket=bucket, crop=crop_for(record.width, record.height, bucket))


def _about_count(sights: Sequence[Sight], scanned: Scan) -> Iterator[Finding]:
    if not sights:
        reason = f"none of the pictures in {scanned.manifest.folder} can be read"
        yield blocks("no-images", "", reason, "replace the unreadable files")
    elif len(sights) < _FEW:
        reason = f"{len(sights)} pictures: the adapter will copy them rather than learn the look"
        yield warns("few-images", "", reason, "add more; 15 to 40 different pictures work well")


def _about_captions(sights: Sequence[Sight], scanned: Scan, trigger: str) -> Iterator[Finding]:
    captions = scanned.captions.by_image
    files = [sight.record.file for sight in sights]
    missing = [file for file in files if file not in captions]
    then = f'the trigger "{trigger}" alone' if trigger else "no text at all"
    remedy = "write what the picture shows (not its style) into a .txt file of the same name"
    if missing and len(missing) == len(files):
        reason = f"no picture has a caption; all are trained with {then}, so prompts will steer the adapter less"
        yield warns("captions-none", "", reason, remedy)
        return
    for file in missing:
        yield warns("caption-missing", file, f"it has no caption and is trained with {then}", remedy)
    for file in files:
        if file in captions and not captions[file].text:
            reason = f"{captions[file].source} is empty; the picture is trained with {then}"
            yield warns("caption-empty", file, reason, remedy)
    texts = [captions[file].text for file in files if file in captions and captions[file].text]
    if len(texts) > 1 and len(set(texts)) == 1:
        reason = f'all {len(texts)} captions say "{texts[0][:80]}"'
        yield warns("captions-equal", "", reason, "say what each picture shows, so that the rest is the look")


def _about_trigger(trigger: str) -> Iterator[Finding]:
    if not trigger.strip():
        reason = "without a trigger word the look appears in every picture made with the adapter"
        yield notes("trigger-none", "", reason, "set data.trigger to a made-up word, if that is not wanted")
    elif is_common(trigger):
        reason = f'"{trigger}" has a meaning of its own, which mixes with the look'
        yield warns("trigger-common", "", reason, 'use a made-up word, such as "brndx"')


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


def _about_rights(record: Record, policy: RightsPolicy, today: date | None) -> Iterator[Finding]:
    rights = record.rights or Rights()
    judge = blocks if policy == "require" else warns
    if policy == "require" and not (rights.owner or rights.licence or rights.consent):
        remedy = 'add "owner", "licence" or "consent" to its row in metadata.jsonl'
        yield judge("rights-missing", record.file, "nobody is stated who allows its use", remedy)
    if today is not None and rights.expires and rights.expires < today.isoformat():
        reason = f"its rights expired on {rights.expires}"
        yield judge("rights-expired", record.file, reason, "renew them or remove the picture")
