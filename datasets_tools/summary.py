"""A check as plain text for a terminal: findings, tables, what it would take, the score."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from datasets_tools.finding import Finding
from datasets_tools.health import Report, title_of
from datasets_tools.storage import human_bytes

__all__ = ["human_seconds", "summarise"]

_SHOWN = 5  # findings of one kind: a folder of 1,000 pictures may have 1,000 of them


def summarise(report: Report) -> str:
    """Return the report as lines, the most serious finding first and the score last."""
    return "\n".join(
        [*_findings(report.findings), *_buckets(report), *_counts(report), *_estimate(report), *_end(report)]
    )


def human_seconds(seconds: float) -> str:
    """Return a time as people say it: 75 -> "1 minute", 5400 -> "1.5 hours"."""
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    for code, group in groupby(findings, key=lambda one: one.code):
        same = list(group)
        for one in same[:_SHOWN]:
            yield f"{one.severity:7} {one.file or 'the set'}: {one.reason}. What to do: {one.remedy}"
        if len(same) > _SHOWN:
            more = len(same) - _SHOWN
            yield f"        {more} more: {title_of(code).lower()} (--report or --json names each)"


def _buckets(report: Report) -> Iterator[str]:
    if report.buckets:
        yield ""
        yield "size         pictures  area used  cut off  enlarged"
    for row in report.buckets:
        enlarged = f"{row.upscale:.1f} times" if row.upscale > 1 else "no"
        yield f"{f'{row.width} x {row.height}':12} {row.count:8}  {row.fill:9.0%}  {row.cropped:7.0%}  {enlarged}"


def _counts(report: Report) -> Iterator[str]:
    counts = report.counts
    if report.images:
        yield ""
        yield (
            f"captions: {counts.captioned} written, {counts.caption_empty} empty, {counts.caption_missing} missing, "
            f"{counts.caption_orphans} without a picture"
        )
        yield (
            f"rights: {counts.rights_stated} stated, {counts.rights_missing} missing, {counts.rights_expired} expired"
        )


def _estimate(report: Report) -> Iterator[str]:
    found = report.estimate
    if "seconds" in found:
        yield (
            f"training: about {human_seconds(found['seconds'])} on this machine "
            f"({found['seconds_per_step']:.2g} s a step at the largest size), {human_bytes(found['peak_bytes'])} of "
            f"memory, {human_bytes(found['cache_bytes'] + found['snapshot_bytes'])} of disk"
        )


def _end(report: Report) -> Iterator[str]:
    yield ""
    for change in report.changes:
        yield f"+{change.points:<3} {change.title}: {change.remedy}"
    left_out = f", {report.counts.excluded} excluded" if report.counts.excluded else ""
    yield f"{report.images} pictures{left_out}, health score {report.score} of 100"
