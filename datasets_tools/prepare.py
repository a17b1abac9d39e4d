"""Turn a folder of pictures into a manifest: scanned, captioned, checked, with a size and a crop for each picture."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools.check import DataSettings, report_on
from datasets_tools.compact import Computed
from datasets_tools.errors import DatasetError, NoImages
from datasets_tools.health import Report
from datasets_tools.manifest import Manifest, Record
from datasets_tools.scan import Progress, Scan
from datasets_tools.storage import require_writable

if TYPE_CHECKING:
    from datasets_tools.journal import Journal

__all__ = ["MANIFEST", "Prepared", "Quarantined", "prepare_folder"]

MANIFEST = "manifest.jsonl"


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
    today: date | None = None,
    journal: "Journal | None" = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Scan the folder and write its manifest, by default as `manifest.jsonl` inside it.

    Unreadable pictures are listed, not moved, and never stop the rest. With a journal only pictures that changed are
    decoded, also after an interrupted call. Raises NoImages when nothing is left, and DatasetError or OutOfSpace when
    the manifest cannot be written or would replace a file that is none, before any picture is read where that is
    certain; an older one then stays as it was.
    """
    folder = Path(folder)
    path = folder / MANIFEST if out is None else Path(out)
    if out is not None or folder.is_dir():  # a missing folder is the scan's to refuse: it knows the near names
        require_writable(path)
    _require_own(path)
    known = journal.added if journal else 0
    scanned = settings.scan(folder, journal=journal, on_progress=on_progress)
    changed = journal.added - known if journal else len(scanned.pictures)
    quarantined = tuple(_quarantined(scanned))
    if not scanned.manifest.records:
        raise _nothing_left(scanned, quarantined)
    report = report_on(scanned, settings, today=today, journal=journal)
    Manifest(scanned.manifest.folder, _records(report)).write(path)
    return Prepared(manifest_path=path, images=len(report.sights), quarantined=quarantined, changed=changed)


def _require_own(path: Path) -> None:
    """Refuse to replace a file of this name that some other program or person wrote."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    if first.strip() and not (b'"file"' in first and b'"sha256"' in first):
        raise DatasetError(f"{path} is not a manifest of ours", hint="move it away or rename it; nothing was written")


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


def _records(report: Report) -> Sequence[Record]:
    """Return the records with everything that was found out, in their order."""
    codes: dict[str, tuple[str, ...]] = {}
    once: dict[tuple[str, ...], tuple[str, ...]] = {}  # the few combinations that there are
    for finding in report.findings:
        told = codes.get(finding.file, ())
        if finding.code not in told:
            told = (*told, finding.code)
            codes[finding.file] = once.setdefault(told, told)

    def record(index: int) -> Record:
        sight = report.sights[index]
        found = codes.get(sight.record.file, ())
        return replace(sight.record, bucket=sight.bucket, crop=sight.crop, findings=found)

    return Computed(len(report.sights), record)
