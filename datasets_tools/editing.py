"""Change the captions of a folder where they are stored, so that it can be undone.

A caption goes back to where it came from: its sidecar, or its row in a metadata file with every other row kept. A
picture without a caption of its own gets a sidecar. Pictures that share a sidecar are edited together, as the first of
them that is selected.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from datasets_tools.caption import Captioner, Captions, find_captions
from datasets_tools.edit import Edit, edited
from datasets_tools.errors import DatasetError, InvalidSetting
from datasets_tools.listing import Listing, list_folder
from datasets_tools.metadata import Statement, is_metadata, statement_of, targets
from datasets_tools.rows import change_rows, read_rows
from datasets_tools.text import decode, tidy
from datasets_tools.undo import Entry, change_files, history, locked, require_places, undo_last

__all__ = [
    "AppliedEdits",
    "Edited",
    "apply_edits",
    "edit_history",
    "exclude_pictures",
    "include_pictures",
    "preview_edits",
    "undo_edits",
    "write_captions",
]

_METADATA = "metadata.jsonl"
_UNREADABLE = {"caption-unreadable", "metadata-invalid"}
_BATCH = 64  # captions written at once: a kill loses the work on so many at most
_log = logging.getLogger("datasets_tools")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """One caption before and after, and the file that holds it or will (relative, POSIX)."""

    file: str
    source: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class AppliedEdits:
    """What was changed. `entry` is its place in the history, None where nothing had to change.

    `skipped` are pictures for which a captioner had no caption.
    """

    entry: Entry | None
    edited: tuple[Edited, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """The captions of a folder with the places that they came from."""

    listing: Listing
    captions: Captions
    selected: tuple[str, ...]
    own_rows: Mapping[str, frozenset[str]]  # metadata file -> pictures whose caption has a row of its own there
    shared: Mapping[str, Sequence[str]]  # source -> the pictures that have their caption there
    stems: Counter[str]

    def before(self, picture: str) -> str:
        found = self.captions.by_image.get(picture)
        return "" if found is None else found.text

    def source(self, picture: str) -> str:
        """Return the file that a caption of the picture is written to."""
        found = self.captions.by_image.get(picture)
        if found is None or (is_metadata(found.source) and picture not in self.own_rows[found.source]):
            return f"{picture if self.stems[_stem(picture)] > 1 else _stem(picture)}.txt"
        return found.source


def preview_edits(folder: Path | str, edits: Sequence[Edit], *, seed: int = 0, select: str = "*") -> tuple[Edited, ...]:
    """Return what apply_edits would change, and change nothing. The arguments and errors are the same."""
    changed = tuple(_edited(_read(Path(folder), select), _by_edits(edits, seed)))
    require_places(Path(folder), {one.source for one in changed})
    return changed


def apply_edits(
    folder: Path | str, edits: Sequence[Edit], *, seed: int = 0, select: str = "*", when: str = ""
) -> AppliedEdits:
    """Edit the captions of a folder in place, all or none of them.

    Args:
        edits: done to each caption in this order.
        seed: what edits that draw depend on, beside the picture's name.
        select: pictures whose relative name, or name alone, is this or matches it as a glob.
        when: the time as the history shall tell it.

    Raises NoImages for a missing folder, DatasetError where a caption file cannot be read (its text would be lost) or
    would need a name no file can have, and InvalidSetting where nothing matches `select` or an edit cannot be done.
    """
    folder = Path(folder)
    with locked(list_folder(folder).folder):
        now = _read(folder, select)
        changed = tuple(_edited(now, _by_edits(edits, seed)))
        entry = change_files(folder, [_contents(now, changed)], what=[edit.what for edit in edits], when=when)
    return AppliedEdits(entry=entry, edited=changed)


def write_captions(
    folder: Path | str,
    captioner: Captioner,
    *,
    overwrite: bool = False,
    select: str = "*",
    when: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> AppliedEdits:
    """Write captions for the pictures that have none, or with `overwrite` for all of them.

    Pictures that are left out of training get none. One that the captioner fails on is logged and skipped. What was
    written before a stop stays, and is undone as one change. `on_progress` is called with (done, total) pictures.
    """
    folder = Path(folder)
    changed: list[Edited] = []
    skipped: list[str] = []

    def batches() -> Iterator[dict[str, bytes]]:
        for start in range(0, len(waiting), _BATCH):
            texts: dict[str, str] = {}
            for done, picture in enumerate(waiting[start : start + _BATCH], start + 1):
                texts[picture] = _captioned(captioner, folder / picture)
                if on_progress is not None:
                    on_progress(done, len(waiting))
            skipped.extend(picture for picture, text in texts.items() if not text)
            made = list(_edited(now, lambda file, before: texts.get(file) or before, pictures=list(texts)))  # noqa: B023
            changed.extend(made)
            yield _contents(now, made)

    with locked(list_folder(folder).folder):
        now = _read(folder, select)
        waiting = [picture for picture in now.selected if picture not in now.captions.excluded]
        waiting = [picture for picture in waiting if overwrite or not now.before(picture)]
        require_places(folder, {now.source(picture) for picture in waiting})  # before hours of captioning
        entry = change_files(folder, batches(), what=[f"write captions with {captioner.name}"], when=when)
    return AppliedEdits(entry=entry, edited=tuple(changed), skipped=tuple(skipped))


def undo_edits(folder: Path | str) -> Entry:
    """Restore the bytes of every file that the last change not yet undone wrote, and return that change.

    Raises DatasetError where there is none, and where a file was changed since, naming it; then nothing is restored.
    """
    return undo_last(list_folder(Path(folder)).folder)


def edit_history(folder: Path | str) -> tuple[Entry, ...]:
    """Return all changes of a folder's captions from the first to the last, undone ones included."""
    return history(list_folder(Path(folder)).folder)


def exclude_pictures(folder: Path | str, files: Sequence[str], *, when: str = "") -> AppliedEdits:
    """Leave pictures out of training: "exclude" in their rows of metadata.jsonl, which is made where it is absent.

    `files` are relative names. Raises InvalidSetting for one that is no picture of the folder.
    """
    return _flag(Path(folder), files, True, when)


def include_pictures(folder: Path | str, files: Sequence[str], *, when: str = "") -> AppliedEdits:
    """Take excluded pictures in again; the inverse of exclude_pictures, also for those that a folder's row excludes."""
    return _flag(Path(folder), files, False, when)


def _read(folder: Path, select: str) -> _Folder:
    listing = list_folder(folder)
    captions = find_captions(listing.folder, listing.pictures, listing.texts)
    bad = next((finding for finding in captions.findings if finding.code in _UNREADABLE), None)
    if bad is not None:
        raise DatasetError(f"captions cannot be changed: {bad.reason}", hint=bad.remedy)
    selected = tuple(file for file in listing.pictures if _matches(file, select))
    if not selected:
        raise InvalidSetting(f"no picture of {folder} matches {select!r}", hint="a glob such as sub/*.png")
    shared: dict[str, list[str]] = {}
    for picture in listing.pictures:
        if picture in captions.by_image:
            shared.setdefault(captions.by_image[picture].source, []).append(picture)
    return _Folder(
        listing=listing,
        captions=captions,
        selected=selected,
        own_rows={file: frozenset(_caption_rows(listing, file)) for file in shared if is_metadata(file)},
        shared=shared,
        stems=Counter(_stem(picture) for picture in listing.pictures),
    )


def _stem(picture: str) -> str:
    return str(PurePosixPath(picture).with_suffix(""))


def _matches(file: str, select: str) -> bool:
    """Say whether a picture is selected; its own name selects it also where that is another glob, such as `[a].png`."""
    return any(name == select or fnmatchcase(name, select) for name in (file, PurePosixPath(file).name))


def _caption_rows(listing: Listing, file: str) -> dict[str, list[Statement]]:
    """Return the rows of a metadata file that hold the caption of one picture, by picture."""
    text = decode((listing.folder / file).read_bytes(), file).text
    rows = _rows_of_pictures(listing, file, text)
    return {
        picture: own
        for picture, all_rows in rows.items()
        if (own := [one for one in all_rows if one.caption is not None])
    }


def _rows_of_pictures(listing: Listing, file: str, text: str) -> dict[str, list[Statement]]:
    """Return the rows of a metadata text that speak of one picture, by picture."""
    known, pictures = targets(listing.pictures), set(listing.pictures)
    rows: dict[str, list[Statement]] = {}
    for stated in (statement_of(file, row) for row in read_rows(text, file)):
        target = known.find(*stated.names)
        if target in pictures:
            rows.setdefault(target, []).append(stated)
    return rows


def _by_edits(edits: Sequence[Edit], seed: int) -> Callable[[str, str], str]:
    return lambda file, before: edited(before, edits, file=file, seed=seed)


def _edited(now: _Folder, change: Callable[[str, str], str], pictures: Sequence[str] | None = None) -> Iterator[Edited]:
    """Yield the captions that change, once for each picture; `change` gets (picture, caption)."""
    done: set[str] = set()
    for picture in now.selected if pictures is None else pictures:
        source = now.source(picture)
        owners = [picture] if is_metadata(source) else now.shared.get(source, [picture])
        if picture in done:
            continue
        done.update(owners)
        after = change(picture, now.before(picture))
        if after != now.before(picture):
            for owner in owners:
                yield Edited(file=owner, source=source, before=now.before(owner), after=after)


def _contents(now: _Folder, changed: Sequence[Edited]) -> dict[str, bytes]:
    """Return the new bytes of each file that holds a changed caption."""
    contents: dict[str, bytes] = {}
    by_file: dict[str, dict[str, str]] = {}
    for one in changed:
        if is_metadata(one.source):
            by_file.setdefault(one.source, {})[one.file] = one.after
        else:
            contents[one.source] = f"{one.after}\n".encode()
    for file, captions in by_file.items():
        old = decode((now.listing.folder / file).read_bytes(), file)
        rows = _caption_rows(now.listing, file)  # read anew: an earlier batch may have moved them
        changes = {one.row.first: {one.caption_key: captions[image]} for image in captions for one in rows[image]}
        contents[file] = old.encoded(change_rows(old.text, file, changes))
    return contents


def _captioned(captioner: Captioner, file: Path) -> str:
    try:
        return tidy(captioner.caption(file))
    except Exception:  # noqa: BLE001 - a plug-in may fail in any way; the other pictures get their captions
        _log.warning("captioner %s failed on %s; it stays without a caption", captioner.name, file, exc_info=True)
        return ""


def _flag(folder: Path, files: Sequence[str], exclude: bool, when: str) -> AppliedEdits:
    with locked(list_folder(folder).folder):
        now = _read(folder, "*")
        unknown = next((file for file in files if file not in now.listing.pictures), None)
        if unknown is not None:
            raise InvalidSetting(f"{unknown} is not a picture of {folder}", hint="give names relative to the folder")
        wanted = [file for file in files if (file in now.captions.excluded) != exclude]
        what = f"{'exclude' if exclude else 'include'} {len(wanted)} picture{'s' if len(wanted) > 1 else ''}"
        entry = change_files(folder, [_flagged(now, wanted, exclude)] if wanted else [], what=[what], when=when)
    return AppliedEdits(entry=entry)


def _flagged(now: _Folder, pictures: Sequence[str], exclude: bool) -> dict[str, bytes]:
    file = next((text for text in now.listing.texts if text.lower() == _METADATA), _METADATA)
    data = (now.listing.folder / file).read_bytes() if file in now.listing.texts else b""
    old = decode(data, file)
    rows = _rows_of_pictures(now.listing, file, old.text)
    changes = {one.row.first: {"exclude": exclude} for picture in pictures for one in rows.get(picture, ())}
    more = [{"file_name": picture, "exclude": exclude} for picture in pictures if picture not in rows]
    return {file: old.encoded(change_rows(old.text, file, changes, more))}
