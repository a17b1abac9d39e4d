"""The check as one HTML page that needs nothing else: pictures with their crop, findings in plain words, sizes."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from datasets_tools.finding import Finding
from datasets_tools.health import Report, Sight, title_of
from datasets_tools.storage import write_text

__all__ = ["write_report"]

_SIDE = 320  # pixels of a thumbnail's longer side: sharp on a phone, about 12 kB each
_HEADINGS = {"blocks": "Must be fixed", "warns": "Worth fixing", "notes": "Good to know"}


@dataclass(frozen=True, kw_only=True)
class _Card:
    """A picture as the page shows it; the frame is in per cent of the picture."""

    file: str
    caption: str
    source: str
    ratio: str
    frame: str
    line: str
    marks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Group:
    severity: str
    title: str
    findings: tuple[Finding, ...]


def write_report(report: Report, path: Path) -> None:
    """Write the report as one self-contained HTML file. Pictures are read again from the folder of the report."""
    from jinja2 import Environment

    template = (files("datasets_tools") / "report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    html = page.render(
        report=report,
        name=report.folder.resolve().name,
        sections=_sections(report.findings),
        cards=_cards(report),
        most=max((row.count for row in report.buckets), default=1),
    )
    write_text(path, html)


def _sections(findings: Sequence[Finding]) -> list[tuple[str, str, list[_Group]]]:
    """Return (severity, heading, groups of equal code) for what was found; the report has them in order."""
    sections = []
    for severity, some in groupby(findings, key=lambda one: one.severity):
        groups = [
            _Group(severity=severity, title=title_of(code), findings=tuple(same))
            for code, same in groupby(some, key=lambda one: one.code)
        ]
        sections.append((severity, _HEADINGS[severity], groups))
    return sections


def _cards(report: Report) -> list[_Card]:
    marks: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.severity != "notes":
            marks.setdefault(finding.file, []).append(title_of(finding.code))
    with ThreadPoolExecutor(thread_name_prefix="report") as pool:  # decoding releases the interpreter lock
        sources = pool.map(lambda sight: _thumbnail(report.folder / sight.record.file), report.sights)
        return [
            _card(sight, source, tuple(dict.fromkeys(marks.get(sight.record.file, ()))))
            for sight, source in zip(report.sights, sources, strict=True)
        ]


def _card(sight: Sight, source: str, marks: tuple[str, ...]) -> _Card:
    record, crop = sight.record, sight.crop
    width, height = crop.resized
    left, top, right, bottom = crop.box
    return _Card(
        file=record.file,
        caption=record.caption,
        source=source,
        ratio=f"{record.width} / {record.height}",
        frame=f"left:{left / width:.2%};top:{top / height:.2%};"
        f"width:{(right - left) / width:.2%};height:{(bottom - top) / height:.2%}",
        line=f"{record.width} x {record.height} px, trained at {sight.bucket.width} x {sight.bucket.height}, "
        f"{crop.area_kept:.0%} kept",
        marks=marks,
    )


def _thumbnail(file: Path) -> str:
    from datasets_tools.image import open_picture

    image = open_picture(file, at_least=_SIDE).image
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
