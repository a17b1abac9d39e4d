"""What a check found, as values: a health score with its reasons, the findings, the tables of the report."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from datasets_tools.bucket import Bucket, Crop
from datasets_tools.finding import Finding, Severity
from datasets_tools.manifest import Record

__all__ = ["TITLES", "BucketRow", "Change", "Counts", "Report", "Sight", "bucket_rows", "title_of"]

_BLOCKS_COST = 51  # of 100 points: with one of these the score is below half, whatever else is fine
_WARNS_COST = 12  # where it concerns every picture; a part of the pictures costs a part, at least 30 %
_CHEAP = {"bucket-small": 2}  # nothing is lost by it: those pictures only form smaller batches
_CHANGES = 3  # more advice at once is not followed

TITLES = {
    "base-missing": "No base model",
    "plan-refused": "Settings that cannot work",
    "memory-short": "Not enough memory",
    "probe-failed": "The first steps fail",
    "disk-small": "Not enough disk space",
    "no-images": "No picture to train on",
    "image-unreadable": "Pictures that cannot be read",
    "folder-unreadable": "Folders that cannot be opened",
    "name-undecodable": "Names that are not text",
    "metadata-invalid": "Metadata that cannot be read",
    "caption-unreadable": "Captions that cannot be read",
    "rights-missing": "Pictures without stated rights",
    "rights-expired": "Pictures whose rights have expired",
    "rights-date": "Dates of rights that cannot be read",
    "rights-conflict": "Rights that contradict each other",
    "validation-missing": "No pictures for validation",
    "validation-leak": "Validation pictures that training sees",
    "validation-unreadable": "Validation pictures that cannot be read",
    "few-images": "Few pictures",
    "captions-none": "No captions",
    "caption-missing": "Pictures without a caption",
    "caption-empty": "Empty captions",
    "captions-equal": "All captions are the same",
    "caption-long": "Captions that are cut off",
    "caption-near-duplicate": "Captions that say almost the same",
    "caption-style-words": "Captions that name the style",
    "caption-lettering": "Captions that mention lettering",
    "caption-conflict": "Two captions for one picture",
    "caption-orphan": "Captions without a picture",
    "caption-lines": "Captions of several lines",
    "caption-encoding": "Captions in an old encoding",
    "trigger-none": "No trigger word",
    "trigger-common": "The trigger is an everyday word",
    "trigger-tokens": "The trigger is many tokens",
    "trigger-in-captions": "The trigger is a word of the captions",
    "trigger-odd": "An odd trigger",
    "steps-per-image": "Few or many steps for the pictures",
    "rate-odd": "An unusual learning rate",
    "memory-tight": "Little free memory",
    "mask-missing": "Pictures without a mask",
    "image-duplicate": "The same file twice",
    "image-near-duplicate": "Pictures that look the same",
    "image-cut-short": "Pictures with a missing part",
    "image-blank": "Empty pictures",
    "image-tiny": "Tiny pictures",
    "image-blurred": "Blurred pictures",
    "image-compressed": "Strongly compressed pictures",
    "image-border": "Pictures with a frame or bars",
    "flip-lettering": "Lettering that would be mirrored",
    "image-lettering": "Pictures with lettering",
    "image-upscaled": "Pictures smaller than the training size",
    "crop-loses": "Pictures that lose much to the crop",
    "bucket-small": "Sizes with few pictures",
    "image-icc-broken": "Damaged colour profiles",
    "image-cmyk-without-profile": "CMYK without a colour profile",
    "image-transparent": "Transparent pictures",
    "image-animated": "Pictures of several frames or pages",
    "image-sixteen-bit": "16-bit pictures",
    "image-exif-broken": "Damaged EXIF data",
    "image-misnamed": "Names that say another format",
    "image-excluded": "Pictures that are left out on request",
    "folder-repeats": "Folders named with a number of repeats",
    "name-collision": "Names that collide on other systems",
    "link-refused": "Links that are not followed",
    "table-unused": "Tables that are not read",
    "other-files": "Files that are not used",
    "hidden-files": "Hidden files and folders",
}


def title_of(code: str) -> str:
    """Return the heading for findings of a code; codes of other packages read as their own words."""
    return TITLES.get(code, code.replace("-", " ").capitalize())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """One picture as training will see it."""

    record: Record
    bucket: Bucket
    crop: Crop


@dataclass(frozen=True, kw_only=True)
class BucketRow:
    """One line of the bucket table. Shares are 0..1.

    `fill` is the size's pixels over the pixel budget, `cropped` the mean share of the pictures that is cut off,
    `upscale` the largest enlargement (below 1 where every picture is scaled down).
    """

    width: int
    height: int
    count: int
    fill: float
    cropped: float
    upscale: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to do, and about how many points of the score it would bring."""

    code: str
    title: str
    remedy: str
    points: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many pictures have what: captions, and stated rights."""

    captioned: int = 0
    caption_missing: int = 0
    caption_empty: int = 0
    caption_orphans: int = 0
    rights_stated: int = 0
    rights_missing: int = 0
    rights_expired: int = 0
    excluded: int = 0
    unreadable: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found.

    Args:
        score: health, 0-100; `reasons` say what cost points ("-12: no captions"), most first.
        changes: the up to three changes that would raise the score most.
        findings: ranked by severity, then by code.
        images: number of pictures to train on; `sights` shows how each is cut, in manifest order.
        buckets: the bucket table, the largest group first.
        palette: up to eight ((red, green, blue), share) of the whole set, the largest first.
        estimate: measured or computed numbers of a plan by name: seconds_per_step, seconds, peak_bytes, cache_bytes,
            snapshot_bytes; empty for a folder alone.
    """

    folder: Path
    score: int
    findings: tuple[Finding, ...]
    images: int
    buckets: tuple[BucketRow, ...] = ()
    reasons: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    counts: Counts = field(default_factory=Counts)
    palette: tuple[tuple[tuple[int, int, int], float], ...] = ()
    estimate: Mapping[str, float] = field(default_factory=dict)
    sights: Sequence[Sight] = ()

    @property
    def blocked(self) -> bool:
        """Say whether a finding forbids training."""
        return any(finding.severity == "blocks" for finding in self.findings)

    @classmethod
    def of(
        cls,
        folder: Path,
        findings: Iterable[Finding],
        sights: Sequence[Sight] = (),
        *,
        budget: int = 0,
        counts: Counts | None = None,
        palette: Sequence[tuple[tuple[int, int, int], float]] = (),
        estimate: Mapping[str, float] | None = None,
    ) -> "Report":
        """Rank and score findings. `budget` is the number of pixels that a bucket should have."""
        ranked = _ranked(findings)
        costs = _costs(ranked, len(sights))
        score = _score(costs)
        whole = sum(costs.values())
        lost = {code: (100 - score) * cost / whole for code, cost in costs.items()}
        return cls(
            folder=folder,
            score=round(score),
            findings=ranked,
            images=len(sights),
            buckets=bucket_rows(sights, budget),
            reasons=tuple(f"-{points:.0f}: {_lower(title_of(code))}" for code, points in lost.items()),
            changes=_changes(ranked, costs),
            counts=counts or Counts(),
            palette=tuple(palette),
            estimate=dict(estimate or {}),
            sights=sights,
        )

    def with_findings(self, more: Iterable[Finding], estimate: Mapping[str, float] | None = None) -> "Report":
        """Return the report with further findings (of a plan, a base model), ranked and scored like its own."""
        whole = Report.of(self.folder, [*self.findings, *more], self.sights, counts=self.counts, palette=self.palette)
        return replace(whole, buckets=self.buckets, estimate={**self.estimate, **(estimate or {})})

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, as `check --json` prints it."""
        return {
            "folder": str(self.folder),
            "score": self.score,
            "blocked": self.blocked,
            "findings": [_to_dict(finding) for finding in self.findings],
            "images": self.images,
            "buckets": [asdict(row) for row in self.buckets],
            "reasons": list(self.reasons),
            "changes": [asdict(change) for change in self.changes],
            "counts": asdict(self.counts),
            "palette": [{"colour": f"#{bytes(colour).hex()}", "share": share} for colour, share in self.palette],
            "estimate": dict(self.estimate),
        }

    def json_parts(self) -> Iterator[str]:
        """Yield `to_dict` as pieces of JSON text: as dicts and one text 200,000 findings take 120 MB."""
        values = replace(self, findings=()).to_dict() | {"blocked": self.blocked}
        for number, (name, value) in enumerate(values.items()):
            yield f"{', ' if number else '{'}{json.dumps(name)}: "
            if name == "findings":
                yield from _json_list(self.findings)
            else:
                yield json.dumps(value, ensure_ascii=False)
        yield "}"


def _to_dict(finding: Finding) -> dict[str, str]:
    return {name: getattr(finding, name) for name in Finding.__slots__}  # asdict copies each value: 5 times as slow


def _json_list(findings: Iterable[Finding]) -> Iterator[str]:
    before = "["
    for finding in findings:
        yield before + json.dumps(_to_dict(finding), ensure_ascii=False)
        before = ", "
    yield "]" if before == ", " else "[]"


def _lower(title: str) -> str:
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order: list[Severity] = ["blocks", "warns", "notes"]
    codes = {code: place for place, code in enumerate(TITLES)}  # a code from elsewhere comes first of its severity

    @cache  # one key for all findings of a code
    def rank(severity: Severity, code: str) -> tuple[int, int, str]:
        return order.index(severity), codes.get(code, -1), code

    return tuple(sorted(findings, key=lambda one: rank(one.severity, one.code)))


def _costs(findings: Sequence[Finding], images: int) -> dict[str, float]:
    """Return what each code costs alone, of 100 points, most first; a code that costs nothing is left out."""
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.code, []).append(finding)
    costs = {code: _cost(same, images) for code, same in grouped.items()}
    return dict(sorted(((code, cost) for code, cost in costs.items() if cost), key=lambda item: -item[1]))


def _score(costs: Mapping[str, float]) -> float:
    """Return the score: each cost takes its share of what the others leave, so that every mended fault shows."""
    return 100 * math.prod(1 - cost / 100 for cost in costs.values())


def _cost(same: Sequence[Finding], images: int) -> float:
    share = 1.0 if any(not finding.file for finding in same) else len(same) / max(images, 1)
    costs = {
        "blocks": float(_BLOCKS_COST if images else 100),
        "warns": _WARNS_COST * min(1.0, max(0.3, share)),
        "notes": 0.0,
    }
    return min(costs[same[0].severity], _CHEAP.get(same[0].code, 100.0))


def _changes(findings: Sequence[Finding], costs: Mapping[str, float]) -> tuple[Change, ...]:
    score = _score(costs)
    remedies: dict[str, dict[str, None]] = {}
    for finding in findings:
        remedies.setdefault(finding.code, {})[finding.remedy] = None
    return tuple(
        Change(
            code=code,
            title=title_of(code),
            remedy=next(iter(remedies[code])) if len(remedies[code]) == 1 else "what to do stands with each below",
            points=round(_score({other: cost for other, cost in costs.items() if other != code})) - round(score),
        )
        for code in list(costs)[:_CHANGES]
    )


def bucket_rows(sights: Sequence[Sight], budget: int) -> tuple[BucketRow, ...]:
    """Return the bucket table of one resolution, the largest group first; `budget` is its area in pixels."""
    counts: dict[Bucket, int] = defaultdict(int)
    cropped: dict[Bucket, float] = defaultdict(float)
    upscale: dict[Bucket, float] = defaultdict(float)
    for sight in sights:
        counts[sight.bucket] += 1
        cropped[sight.bucket] += 1 - sight.crop.area_kept
        upscale[sight.bucket] = max(upscale[sight.bucket], sight.crop.upscale)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(
        BucketRow(
            width=bucket.width,
            height=bucket.height,
            count=count,
            fill=bucket.width * bucket.height / budget if budget else 1.0,
            cropped=cropped[bucket] / count,
            upscale=upscale[bucket],
        )
        for bucket, count in ranked
    )
