"""Turn a folder of pictures into a manifest: scanned, captioned, with a size for each picture."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets_tools.bucket import BucketRule, bucket_for
from datasets_tools.caption import Captioner, with_trigger
from datasets_tools.captioners import captioner as captioner_named
from datasets_tools.errors import NoImages
from datasets_tools.manifest import Manifest, Record
from datasets_tools.scan import Progress, Scan, scan

__all__ = ["MANIFEST", "Prepared", "Quarantined", "prepare"]

MANIFEST = "manifest.jsonl"
_log = logging.getLogger("datasets_tools")


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that cannot be trained on (relative, POSIX) and why. It stays where it is."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the manifest lies, how many pictures it lists, and which files are left out."""

    manifest_path: Path
    images: int
    quarantined: tuple[Quarantined, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, as `prepare --json` prints it."""
        return {
            "manifest": str(self.manifest_path),
            "images": self.images,
            "quarantined": [asdict(one) for one in self.quarantined],
        }


def prepare(
    folder: Path | str,
    *,
    rule: BucketRule,
    trigger: str = "",
    out: Path | None = None,
    captioner: str = "",
    background: tuple[int, int, int] = (255, 255, 255),
    on_progress: Progress | None = None,
) -> Prepared:
    """Scan the folder and write its manifest, by default as `manifest.jsonl` inside it.

    With a captioner (a name of `captioner_names()`) pictures without a caption get one; no caption file is written or
    changed. Unreadable pictures are listed, not moved, and never stop the rest. Raises NoImages when nothing is left,
    and DatasetError or OutOfSpace when the manifest cannot be written; an older one then stays as it was.
    """
    chosen = captioner_named(captioner) if captioner else None
    scanned = scan(folder, trigger=trigger, background=background, on_progress=on_progress)
    quarantined = tuple(_quarantined(scanned))
    if not scanned.manifest.records:
        first = quarantined[0]
        raise NoImages(
            f"none of the {len(quarantined)} pictures in {folder} can be read; {first.file}: {first.reason}",
            hint="replace the unreadable files; check lists each with its remedy",
        )
    root = scanned.manifest.folder
    records = tuple(_ready(record, scanned, rule, chosen, trigger) for record in scanned.manifest.records)
    path = root / MANIFEST if out is None else Path(out)
    Manifest(root, records).write(path)
    return Prepared(manifest_path=path, images=len(records), quarantined=quarantined)


def _quarantined(scanned: Scan) -> Iterator[Quarantined]:
    for finding in scanned.findings:
        if finding.code == "image-unreadable":
            yield Quarantined(file=finding.file, reason=finding.reason)


def _ready(record: Record, scanned: Scan, rule: BucketRule, chosen: Captioner | None, trigger: str) -> Record:
    record = replace(record, bucket=bucket_for(record.width, record.height, rule))
    found = scanned.captions.by_image.get(record.file)
    if chosen is None or (found is not None and found.text):
        return record
    return replace(record, caption=with_trigger(_captioned(chosen, scanned.manifest.path(record)), trigger))


def _captioned(chosen: Captioner, file: Path) -> str:
    try:
        return chosen.caption(file)
    except Exception:  # noqa: BLE001 - a plug-in may fail in any way; captioning never blocks training
        _log.warning("captioner %s failed on %s; it stays without a caption", chosen.name, file, exc_info=True)
        return ""
