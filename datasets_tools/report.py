"""The check as one HTML file that needs nothing else, for a reader who has never trained a model.

Pictures are drawn as inline SVG: the data of a thumbnail stands in the file once, in the gallery, and `<use>` repeats
it beside the findings. Unlike CSS backgrounds this prints in every browser, crop frames and swatches included, and the
page needs no style attribute, so that its content security policy allows one style sheet by its hash and nothing else.
"""

import base64
import hashlib
import heapq
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby, islice
from pathlib import Path

from datasets_tools.errors import UnreadableImage
from datasets_tools.finding import Finding, Severity
from datasets_tools.health import Report, Sight, title_of
from datasets_tools.storage import human_bytes, replacing

__all__ = ["write_report"]

_SIDE, _SMALL_SIDE = 384, 192  # pixels of a thumbnail's longer side: about 20 and 6 kB each
_FEW = 60  # up to so many pictures get the larger thumbnails: 50 camera pictures stay below 3 MB
_SHOWN = 1000  # browsers still scroll smoothly; the file has about 8 MB then
_LISTED = 200  # findings of one kind; nobody reads on, and --json has all of them
_THREADS = 4  # each holds a decoded picture: 36 MB for 12 megapixels, 192 MB at the limit of 64
_HEADINGS: Mapping[Severity, tuple[str, str]] = {
    "blocks": ("Must be fixed", "Training would fail, or leave these out."),
    "warns": ("Worth fixing", "Training works, but the result could suffer."),
    "notes": ("Good to know", "Training copes with these as they are; change what you do not want so."),
}

# A word that a reader may not know -> what it means, told where it comes up first.
_TERMS: Mapping[str, str] = {
    r"\bcaption": "A caption is the text that goes with a picture and says what it shows.",
    r"\btrigger": "A trigger is a made-up word; writing it later calls up the look.",
    r"\bprompt": "A prompt is the text with which somebody later asks for a picture.",
    r"\badapter": "The adapter is what training makes: a small file that holds the look.",
    r"\bcrop|\bcut off\b": "To crop is to cut off edges, so that a picture fits the shape it is trained in.",
    r"\bbatch": "A batch is the group of pictures that training looks at in one go.",
    r"\bsRGB\b": "sRGB is the usual colour standard of screens and the web.",
    r"\bCMYK\b": "CMYK describes colours by printing inks instead of light.",
    r"\bcolour profile": "A colour profile says which exact colours the numbers in a file stand for.",
    r"\bEXIF\b": "EXIF data is what a camera notes in the file, such as which side is up.",
    r"\bmetadata\.(jsonl|csv)": "metadata.jsonl is a text file in the folder with one line for each picture.",
}


@dataclass(frozen=True, kw_only=True)
class _Shot:
    """A file beside a finding; `number` is that of its picture in the gallery, None where it is not there."""

    file: str
    number: int | None = None
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True)
class _Cluster:
    """Findings with one reason: of the whole set (no shots), of one file, or of several. `remedy` only if its own."""

    reason: str
    remedy: str
    shots: tuple[_Shot, ...]


@dataclass(frozen=True, kw_only=True)
class _Group:
    """All findings of a code and severity. `remedy` is empty where the clusters have their own."""

    anchor: str
    title: str
    count: int
    remedy: str
    clusters: tuple[_Cluster, ...]
    terms: tuple[str, ...]

    @property
    def unlisted(self) -> int:
        return self.count - sum(max(len(cluster.shots), 1) for cluster in self.clusters)


@dataclass(frozen=True, kw_only=True)
class _Card:
    """A picture of the gallery in units of its thumbnail; `source` is empty where it cannot be read any more."""

    number: int
    sight: Sight
    width: int
    height: int
    box: tuple[float, float, float, float]
    marks: tuple[tuple[str, str, Severity], ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class _Swatch:
    """A colour of the set; `left` and `share` are per cent, `ink` is black or white, whichever reads better on it."""

    colour: str
    ink: str
    left: float
    share: float


def write_report(report: Report, path: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    The pictures are read again from the folder of the report, a few at a time; one that vanished, broke or changed its
    size since the check is shown as a placeholder. `on_progress` is called with (done, total) after each, in the
    calling thread. Raises DatasetError when `path` cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page.filters |= {"digest": _digest, "plural": _plural, "sentence": _sentence, "ended": _ended, "each": _each}
    page.filters |= {"rough": _rough, "duration": _duration}
    template = page.from_string((files("datasets_tools") / "report.html").read_text(encoding="utf-8"))
    shown = _shown(report)
    side = _SIDE if len(shown) <= _FEW else _SMALL_SIDE
    explain = _Glossary()
    anchors = {finding.code: _anchor(finding) for finding in reversed(report.findings)}
    context = {
        "report": report,
        "name": report.folder.resolve().name or str(report.folder),
        "changes": [(one, anchors[one.code], explain(one.title, one.remedy)) for one in report.changes],
        "sections": _sections(report.findings, _shots(shown, side), explain),
        "lost": [reason.removeprefix("-").split(": ", 1) for reason in report.reasons],
        "swatches": list(_swatches(report.palette)),
        "needs": _needs(report.estimate),
        "shown": len(shown),
        "small": side == _SMALL_SIDE,
        "cards": _cards(report, shown, side, on_progress or (lambda done, total: None)),
    }
    # a lone surrogate, in a name or behind a \ud800 in JSON, has no UTF-8: it becomes a question mark
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(template.generate(context))


class _Glossary:
    """Gives the meaning of each word once: where the reader meets it first."""

    def __init__(self) -> None:
        self._left = dict(_TERMS)

    def __call__(self, *texts: str) -> tuple[str, ...]:
        used = [term for term in self._left if re.search(term, " ".join(texts), re.IGNORECASE)]
        return tuple(self._left.pop(term) for term in used)


def _shown(report: Report) -> list[Sight]:
    """Return the pictures of the gallery in manifest order; where they are too many, those with findings come first."""
    if len(report.sights) <= _SHOWN:
        return list(report.sights)
    rank: dict[str, int] = {}
    for finding in report.findings:
        rank.setdefault(finding.file, len(rank))
    places = ((rank.get(sight.record.file, len(rank)), place) for place, sight in enumerate(report.sights))
    return [report.sights[place] for _, place in heapq.nsmallest(_SHOWN, places)]


def _shots(shown: Sequence[Sight], side: int) -> dict[str, _Shot]:
    shots = {}
    for number, sight in enumerate(shown):
        width, height = _scaled(sight, side)
        shots[sight.record.file] = _Shot(file=sight.record.file, number=number, width=width, height=height)
    return shots


def _scaled(sight: Sight, side: int) -> tuple[int, int]:
    record = sight.record
    factor = side / max(record.width, record.height)
    return max(1, round(record.width * factor)), max(1, round(record.height * factor))


def _sections(
    findings: Sequence[Finding], shots: Mapping[str, _Shot], explain: _Glossary
) -> list[tuple[Severity, tuple[str, str], list[_Group]]]:
    """Return (severity, heading and its meaning, groups of equal code); the report has the findings in order."""
    return [
        (
            severity,
            _HEADINGS[severity],
            [_group(list(same), shots, explain) for _, same in groupby(some, key=lambda one: one.code)],
        )
        for severity, some in groupby(findings, key=lambda one: one.severity)
    ]


def _anchor(finding: Finding) -> str:
    return f"{finding.severity}-{finding.code}"  # a code can come with two severities


def _group(same: Sequence[Finding], shots: Mapping[str, _Shot], explain: _Glossary) -> _Group:
    first, remedies = same[0], {finding.remedy for finding in same}
    listed = same[:_LISTED]
    clusters: dict[tuple[str, str], list[Finding]] = {}
    for finding in listed:
        clusters.setdefault((finding.reason, finding.remedy), []).append(finding)
    return _Group(
        anchor=_anchor(first),
        title=title_of(first.code),
        count=len(same),
        remedy=first.remedy if len(remedies) == 1 else "",
        clusters=tuple(
            _Cluster(
                reason=reason,
                remedy=remedy if len(remedies) > 1 else "",
                shots=tuple(shots.get(one.file, _Shot(file=one.file)) for one in alike if one.file),
            )
            for (reason, remedy), alike in clusters.items()
        ),
        terms=explain(title_of(first.code), *(text for one in listed for text in (one.reason, one.remedy))),
    )


def _cards(
    report: Report, shown: Sequence[Sight], side: int, on_progress: Callable[[int, int], None]
) -> Iterator[_Card]:
    marks: dict[str, dict[tuple[str, str, Severity], None]] = {sight.record.file: {} for sight in shown}
    for finding in report.findings:
        if finding.file in marks:
            marks[finding.file][(_anchor(finding), title_of(finding.code), finding.severity)] = None
    sources = _ahead(lambda sight: _thumbnail(report.folder, sight, side), shown)
    for number, (sight, source) in enumerate(zip(shown, sources, strict=True)):
        yield _card(number, sight, side, source, tuple(marks[sight.record.file]))
        on_progress(number + 1, len(shown))


def _card(number: int, sight: Sight, side: int, source: str, marks: tuple[tuple[str, str, Severity], ...]) -> _Card:
    width, height = _scaled(sight, side)
    across, along = width / sight.crop.resized[0], height / sight.crop.resized[1]
    left, top, right, bottom = sight.crop.box
    box = (left * across, top * along, (right - left) * across, (bottom - top) * along)
    return _Card(number=number, sight=sight, width=width, height=height, box=box, marks=marks, source=source)


def _ahead(work: Callable[[Sight], str], sights: Iterable[Sight]) -> Iterator[str]:
    """Yield results in order from threads that are at most two pictures each ahead of the reader."""
    threads = min(_THREADS, os.cpu_count() or 1)
    waiting, rest = deque[Future[str]](), iter(sights)
    with ThreadPoolExecutor(threads, thread_name_prefix="report") as pool:  # decoding releases the interpreter lock
        waiting.extend(pool.submit(work, sight) for sight in islice(rest, 2 * threads))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, sight) for sight in islice(rest, 1))
            yield result


def _thumbnail(folder: Path, sight: Sight, side: int) -> str:
    """Return the picture as base64 JPEG; empty when it is no longer what was checked."""
    from datasets_tools.image import open_picture

    try:
        picture = open_picture(folder / sight.record.file, at_least=side)
    except UnreadableImage:
        return ""
    if picture.size != (sight.record.width, sight.record.height):
        return ""
    buffer = io.BytesIO()
    picture.image.resize(_scaled(sight, side)).save(buffer, "JPEG", quality=80, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _swatches(palette: Iterable[tuple[tuple[int, int, int], float]]) -> Iterator[_Swatch]:
    left = 0.0
    for colour, share in palette:
        ink = "#000" if _luminance(colour) > 0.179 else "#fff"  # where both inks have the same contrast, 4.6 to 1
        yield _Swatch(colour=f"#{bytes(colour).hex()}", ink=ink, left=left, share=100 * share)
        left += 100 * share


def _luminance(colour: tuple[int, int, int]) -> float:
    """Return the relative luminance, 0..1 (WCAG 2.2)."""
    red, green, blue = (
        value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _needs(estimate: Mapping[str, float]) -> str:
    """Return what a training takes, in words: time, memory, disk; only what is known, empty if nothing is."""
    needs = []
    if "seconds" in estimate:
        needs.append(f"about {_duration(estimate['seconds'])} on this machine")
    if "peak_bytes" in estimate:
        needs.append(f"{_rough(estimate['peak_bytes'])} of memory")
    if disk := sum(estimate.get(name, 0.0) for name in ("cache_bytes", "snapshot_bytes")):
        needs.append(f"{_rough(disk)} of disk")
    return " and ".join(filter(None, (", ".join(needs[:-1]), *needs[-1:])))


def _duration(seconds: float) -> str:
    for unit, length, below in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 36)):
        if seconds < below * length:
            count = max(1, round(seconds / length))
            return _plural(count, unit)
    return _plural(round(seconds / 86400), "day")


def _rough(count: float) -> str:
    """Return a number of bytes with two digits; an estimate knows no more."""
    return human_bytes(float(f"{count:.2g}")).replace(".0 ", " ")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _sentence(text: str) -> str:
    begins_with_word = re.match(r"[a-z]+(?=[ ,:;])", text)  # and not with a file's name, which stays as it is
    return _ended(text[:1].upper() + text[1:] if begins_with_word else text)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _each(reason: str) -> str:
    """Say of several files what the reason says of one."""
    return f"each {reason[3:]}" if reason.startswith("it ") else f"for each, {reason}"


def _digest(style: str) -> str:
    """Return what a content security policy calls this style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
