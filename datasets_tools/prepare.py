"""Turn a folder of pictures into a manifest: scanned, captioned, checked, with a size and a crop for each picture."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.caption import Captioner, with_trigger
from datasets_tools.captioners import captioner as captioner_named
from datasets_tools.check import DataSettings, report_on
from datasets_tools.errors import NoImages
from datasets_tools.health import Report
from datasets_tools.manifest import Manifest, Record
from datasets_tools.scan import Progress, Scan
from datasets_tools.storage import require_writable

if TYPE_CHECKING:
    from datasets_tools.journal import Journal

__all__ = ["MANIFEST", "Prepared", "Quarantined", "prepare_folder"]

MANIFEST = "manifest.jsonl"
_log = logging.getLogger("datasets_tools")


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that cannot be trained on (relative, POSIX) and why. It stays where it is."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the manifest lies, how many pictures it lists, and which files are left out.

    `changed` pictures were decoded in this call; the others were known from an earlier one. `encoded` counts pictures
    and captions that were added to the cache of a base model.
    """

    manifest_path: Path
    images: int
    quarantined: tuple[Quarantined, ...]
    changed: int = 0
    encoded: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, as `prepare --json` prints it."""
        return {
            "manifest": str(self.manifest_path),
            "images": self.images,
            "quarantined": [asdict(one) for one in self.quarantined],
            "changed": self.changed,
            "encoded": self.encoded,
        }


def prepare_folder(
    folder: Path | str,
    settings: DataSettings,
    *,
    out: Path | None = None,
    captioner: str = "",
    today: date | None = None,
    journal: "Journal | None" = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Scan the folder and write its manifest, by default as `manifest.jsonl` inside it.

    With a captioner (a name of `captioner_names()`) pictures without a caption get one; no caption file is written or
    changed. Unreadable pictures are listed, not moved, and never stop the rest. With a journal only pictures that
    changed are decoded, also after an interrupted call. Raises NoImages when nothing is left, and DatasetError or
    OutOfSpace when the manifest cannot be written, before any picture is read where that is certain; an older one then
    stays as it was.
    """
    if captioner:
        captioner_named(captioner)  # an unknown one is refused before any work
    folder = Path(folder)
    path = folder / MANIFEST if out is None else Path(out)
    if out is not None or folder.is_dir():  # a missing folder is the scan's to refuse: it knows the near names
        require_writable(path)
    known = journal.added if journal else 0
    scanned = settings.scan(folder, journal=journal, on_progress=on_progress)
    changed = journal.added - known if journal else len(scanned.pictures)
    quarantined = tuple(_quarantined(scanned))
    if not scanned.manifest.records:
        raise _nothing_left(scanned, quarantined)
    report = report_on(scanned, settings, today=today, journal=journal)
    root = scanned.manifest.folder
    Manifest(root, tuple(_records(report, scanned, captioner, settings.trigger, journal))).write(path)
    return Prepared(manifest_path=path, images=len(report.sights), quarantined=quarantined, changed=changed)


def _nothing_left(scanned: Scan, quarantined: tuple[Quarantined, ...]) -> NoImages:
    folder = scanned.manifest.folder
    if not quarantined:
        return NoImages(f"every picture in {folder} is excluded", hint="include some again")
    first = quarantined[0]
    return NoImages(
        f"none of the {len(quarantined)} pictures in {folder} can be read; {first.file}: {first.reason}",
        hint="replace the unreadable files; check lists each with its remedy",
    )


def _quarantined(scanned: Scan) -> Iterator[Quarantined]:
    for finding in scanned.findings:
        if finding.code == "image-unreadable":
            yield Quarantined(file=finding.file, reason=finding.reason)


def _records(
    report: Report, scanned: Scan, captioner: str, trigger: str, journal: "Journal | None"
) -> Iterator[Record]:
    """Yield the records with everything that was found out, in their order."""
    codes: dict[str, dict[str, None]] = {}
    for finding in report.findings:
        codes.setdefault(finding.file, {})[finding.code] = None
    caption = _captions(scanned, captioner, journal)
    for sight in report.sights:
        record = replace(sight.record, bucket=sight.bucket, crop=sight.crop)
        record = replace(record, findings=tuple(codes.get(record.file, ())))
        found = scanned.captions.by_image.get(record.file)
        if captioner and not (found is not None and found.text):
            record = replace(record, caption=with_trigger(caption(record), trigger))
        yield record


def _captions(scanned: Scan, name: str, journal: "Journal | None") -> Callable[[Record], str]:
    """Return how a picture without a caption gets one; what the journal knows is not asked again."""
    chosen = captioner_named(name) if name else None

    def caption(record: Record) -> str:
        assert chosen is not None
        key = f"caption:{name}:{record.file}:{record.sha256}"
        known = journal.find(key) if journal else None
        if known is not None:
            return str(known["caption"])
        text = _captioned(chosen, scanned.manifest.path(record))
        if journal and text:
            journal.add(key, {"caption": text})
        return text

    return caption


def _captioned(chosen: Captioner, file: Path) -> str:
    try:
        return chosen.caption(file)
    except Exception:  # noqa: BLE001 - a plug-in may fail in any way; captioning never blocks training
        _log.warning("captioner %s failed on %s; it stays without a caption", chosen.name, file, exc_info=True)
        return ""
