"""What the checks say about a set, kept for as long as its files stay as they are."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from datasets_tools import (
    BucketRule,
    DataSettings,
    Finding,
    Journal,
    Report,
    check_folder,
    describe_pictures,
    sha256_file,
)
from webui.datasets import Datasets, PictureSet

__all__ = ["WITHDRAWN", "Checks", "state_of"]

WITHDRAWN = "image-withdrawn"
"""Code of the finding on a picture that may no longer be used."""

_KEPT = 32  # reports; one of 50 pictures is about 100 kB
_HASHES = 20_000  # of files, 200 bytes each
_Key = tuple[str, int, str, str]
_File = tuple[str, int, int]


class Checks:
    """Reports by set, resolution and trigger. `journal` remembers what single pictures look like, across restarts."""

    def __init__(self, datasets: Datasets, journal: Path) -> None:
        self._datasets, self._journal_path = datasets, journal
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        self._reports: OrderedDict[_Key, Report] = OrderedDict()
        self._hashes: OrderedDict[_File, str] = OrderedDict()

    def known(self, found: PictureSet, *, resolution: int, trigger: str = "") -> Report | None:
        """Return the report of the files as they are now, if there is one."""
        with self._lock:
            return self._reports.get(_key(found, resolution, trigger))

    def report(self, found: PictureSet, *, resolution: int, trigger: str = "") -> Report:
        """Return the report of the files as they are now; looking at 50 pictures anew takes seconds.

        Raises what `check_folder` raises. The rule is that of a plan: 64 pixels a step, or a quarter of a small size.
        """
        known = self.known(found, resolution=resolution, trigger=trigger)
        if known is not None:
            return known
        with self._datasets.busy(found.id, "check") as told:
            key = _key(found, resolution, trigger)
            known = self.known(found, resolution=resolution, trigger=trigger)  # another may have waited for the same
            if known is not None:
                return known
            rule = BucketRule(resolution=resolution, step=min(64, resolution // 4))
            settings = DataSettings(rule=rule, trigger=trigger, rights="require")  # as every plan of the studio does
            made = check_folder(found.folder, settings, today=date.today(), journal=self._looks(), on_progress=told)
            with self._lock:
                self._reports[key] = made
                while len(self._reports) > _KEPT:
                    self._reports.popitem(last=False)
            return made

    def withdrawn(self, found: PictureSet, reasons: Mapping[str, str]) -> tuple[Finding, ...]:
        """Return a blocking finding for each picture of a set that is withdrawn and not left out.

        `reasons` are by the SHA-256 of the file; a file is hashed once for as long as it stays as it is.
        """
        if not reasons:
            return ()
        files = [each.file for each in describe_pictures(found.folder) if not each.excluded]
        known = {file: reasons.get(self._hash_of(found.folder / file)) for file in files}
        remedy = "leave it out"
        return tuple(
            Finding(code=WITHDRAWN, severity="blocks", file=file, reason=f"withdrawn: {reason}", remedy=remedy)
            for file, reason in known.items()
            if reason is not None
        )

    def _hash_of(self, path: Path) -> str:
        try:
            status = path.stat()
            key = (str(path), status.st_size, status.st_mtime_ns)
            with self._lock:
                known = self._hashes.get(key)
            hashed = known or sha256_file(path)
        except FileNotFoundError:  # taken back by an undo at this moment
            return ""
        with self._lock:
            self._hashes[key] = hashed
            while len(self._hashes) > _HASHES:
                self._hashes.popitem(last=False)
        return hashed

    def _looks(self) -> Journal:
        with self._lock:
            if self._journal is None:
                self._journal = Journal(self._journal_path)
            return self._journal


def _key(found: PictureSet, resolution: int, trigger: str) -> _Key:
    day = date.today().isoformat()  # rights expire
    return found.id, resolution, trigger, f"{day} {state_of(found.folder)}"


def state_of(folder: Path) -> str:
    """Return a hash over the names, sizes and times of the files of a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                try:
                    status = os.stat(os.path.join(parent, name))
                except FileNotFoundError:  # taken back by an undo at this moment
                    continue
                said = f"{parent}/{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(said.encode(errors="surrogateescape"))
    return digest.hexdigest()
