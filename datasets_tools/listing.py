"""What a folder holds: pictures, texts and the rest, in an order that does not depend on the file system."""

import difflib
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets_tools.caption import SIDECARS
from datasets_tools.errors import NoImages
from datasets_tools.finding import Finding, blocks, notes, warns
from datasets_tools.manifest import leaves, name_order
from datasets_tools.metadata import is_metadata
from datasets_tools.sniff import PICTURE_SUFFIXES, kind_of
from datasets_tools.undo import FOLDER as UNDO_FOLDER

__all__ = ["Listing", "list_folder", "no_images"]

_IGNORED = {"thumbs.db", "desktop.ini", "ehthumbs.db", "manifest.jsonl", "icon\r"}
_IGNORED_FOLDERS = {"__macosx", "@eadir"}  # what macOS and Synology keep beside pictures, thumbnails too
_TABLES = (".jsonl", ".csv", ".tsv")
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_MEANT = ("caption", "metadata", "rights", "rechte", "texte")  # in names of spreadsheets that were meant to be read
_NAMED = 5  # so many files are named in a finding about several


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files below a folder as relative POSIX names: pictures in name order, possible captions, everything else."""

    folder: Path
    pictures: tuple[str, ...]
    texts: tuple[str, ...]
    others: tuple[str, ...]
    findings: tuple[Finding, ...]


def list_folder(folder: Path, *, skip: Sequence[Path] = ()) -> Listing:
    """List a folder and what is below it. What is hidden is left out with a note, links that lead out are refused.

    Folders in `skip` are not entered: masks, or pictures held out, may lie inside.
    Raises NoImages where the folder does not exist; one without pictures is the caller's to judge (`no_images`).
    """
    root = _existing(folder)
    pictures: list[str] = []
    texts: list[str] = []
    others: list[str] = []
    findings: list[Finding] = []
    hidden: list[str] = []
    for file in _files(root, {path.resolve() for path in skip}, findings, hidden):
        suffix = PurePosixPath(file).suffix.lower()
        if suffix in PICTURE_SUFFIXES:
            pictures.append(file)
        elif suffix in SIDECARS or is_metadata(file):
            texts.append(file)
        elif suffix in _TABLES or (suffix in _SPREADSHEETS and any(word in file.lower() for word in _MEANT)):
            findings.append(_unread_table(file))
        elif _is_picture(root / file):
            pictures.append(file)
        else:
            others.append(file)
    pictures.sort(key=name_order)
    findings += _same_names(pictures)
    findings += _leftovers(others)
    findings += _left_out(hidden)
    return Listing(
        folder=root,
        pictures=tuple(pictures),
        texts=tuple(sorted(texts)),
        others=tuple(sorted(others)),
        findings=tuple(findings),
    )


def no_images(listing: Listing) -> NoImages:
    """Say what is there instead, and where pictures are: the most common mistake is being one folder off."""
    root = listing.folder
    archives = [file for file in listing.others if file.lower().endswith((".zip", ".7z", ".rar", ".tar.gz", ".tgz"))]
    blocking = [finding for finding in listing.findings if finding.severity != "notes"]
    near = [place for place in _around(root) if _has_pictures(place)]
    if archives:
        hint = f"unpack {archives[0]} first"
    elif blocking:
        hint = blocking[0].remedy
    elif near:
        hint = f"there are pictures in {near[0]}: use that folder"
    else:
        hint = "put JPEG, PNG, WebP, TIFF, BMP or AVIF files into it"
    there = len(listing.texts) + len(listing.others)
    what = f"holds {there} file{'s' if there > 1 else ''} but no picture" if there else "holds no picture"
    return NoImages(f"the folder {root} {what}", hint=hint)


def _existing(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NoImages(f"{folder} is a file, not a folder", hint=f"give the folder with the pictures: {folder.parent}")
    near = _near_name(folder)
    raise NoImages(
        f"the folder {folder} does not exist",
        hint=f"did you mean {near}?" if near else "check the path and its spelling",
    )


def _near_name(folder: Path) -> Path | None:
    """Return the path with its first missing part replaced by the most similar folder beside it."""
    missing = folder
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return None
    siblings = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    lower = {name.lower(): name for name in siblings}
    near = difflib.get_close_matches(missing.name.lower(), lower, 1)
    return missing.parent / lower[near[0]] if near else None


def _files(root: Path, skip: Collection[Path], findings: list[Finding], hidden: list[str]) -> Iterator[str]:
    inside = root.resolve()
    for parent, folders, names in os.walk(root, onerror=lambda error: findings.append(_closed(root, error))):
        at = Path(parent).relative_to(root)
        folders[:] = sorted(name for name in folders if Path(parent, name).resolve() not in skip)
        hidden += [f"{(at / name).as_posix()}/" for name in folders if not _is_entered(name) and name != UNDO_FOLDER]
        hidden += [(at / name).as_posix() for name in names if _ignored(name) and _claims_picture(name)]
        folders[:] = [name for name in folders if _is_entered(name)]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*links, *sorted(name for name in names if not _ignored(name))):
            path = Path(parent, name)
            file = path.relative_to(root).as_posix()
            if not _is_text(file):
                findings.append(_misspelt(file))
            elif leaves(file):
                findings.append(_leading_out(file))
            elif path.is_symlink() and not _stays(path, inside):
                findings.append(_link(file))
            elif path.is_file() or path.suffix.lower() in PICTURE_SUFFIXES:
                yield file


def _stays(link: Path, inside: Path) -> bool:
    """Say whether a link leads to a file in the folder; a picture that is gone is told of where it is read."""
    leads_inside = Path(os.path.realpath(link)).is_relative_to(inside)  # resolve() raises on loops
    return leads_inside and (link.is_file() or (link.suffix.lower() in PICTURE_SUFFIXES and not link.is_dir()))


def _is_text(file: str) -> bool:
    """Say whether a name is valid text: old archives leave names in other encodings, which no manifest can hold."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _ignored(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in _IGNORED


def _is_entered(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _IGNORED_FOLDERS


def _claims_picture(name: str) -> bool:
    """Say whether a hidden file may be a picture; macOS writes a `._` file for each one, which is none."""
    return not name.startswith("._") and PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _is_picture(path: Path) -> bool:
    """Say whether a file without a picture's name holds one: some programs save without an ending."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(64)).format not in {"", "BMP"}  # two letters prove nothing
    except OSError:
        return False


def _same_names(files: Sequence[str]) -> Iterator[Finding]:
    """Report names that other systems take for the same file: they would overwrite each other when copied there."""
    first: dict[str, str] = {}
    for file in files:
        twin = first.setdefault(unicodedata.normalize("NFC", file).casefold(), file)
        if twin != file:
            reason = f"its name differs from {twin} only in case or in how accents are stored"
            yield warns("name-collision", file, reason, "rename one: on other systems they are one file")


def _leftovers(others: Sequence[str]) -> Iterator[Finding]:
    if others:
        files = "files are" if len(others) > 1 else "file is"
        reason = f"{len(others)} other {files} not used: {_some(others)}"
        yield notes("other-files", "", reason, "nothing, if they are not pictures")


def _left_out(hidden: Sequence[str]) -> Iterator[Finding]:
    if hidden:
        shown = sorted(name.encode("utf-8", "replace").decode("utf-8") for name in hidden)
        reason = f"hidden, or kept by a system for itself, and therefore left out: {_some(shown)}"
        yield notes(
            "hidden-files", "", reason, "nothing, if they are not pictures of the set; else give them another name"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _unread_table(file: str) -> Finding:
    reason = "tables of this name are not read: captions and rights stand in metadata.csv, metadata.jsonl or rights.csv"
    remedy = "if it holds captions or rights, save it as a CSV of such a name; else take it away"
    return warns("table-unused", file, reason, remedy)


def _link(file: str) -> Finding:
    reason = "it is a link that leads to a folder, out of this one or nowhere, so it is not followed"
    return warns("link-refused", file, reason, "put a copy of what it leads to in its place")


def _misspelt(file: str) -> Finding:
    shown = file.encode("utf-8", "replace").decode("utf-8")
    return blocks("name-undecodable", shown, "its name is not valid UTF-8", "rename it")


def _leading_out(file: str) -> Finding:
    reason = "its name is a path on Windows, so no manifest may hold it"
    return blocks("name-collision", file, reason, "rename it without \\ and without a colon after the first letter")


def _closed(root: Path, error: OSError) -> Finding:
    file = Path(error.filename).relative_to(root).as_posix()
    return blocks("folder-unreadable", file, f"it cannot be opened: {error.strerror}", "allow reading it")


def _around(root: Path) -> Iterator[Path]:
    parent = root.absolute().parent
    yield parent
    try:
        yield from sorted(entry for entry in parent.iterdir() if entry.is_dir() and entry.name != root.name)
    except OSError:
        return


def _has_pictures(folder: Path) -> bool:
    try:
        return any(entry.suffix.lower() in PICTURE_SUFFIXES for entry in folder.iterdir() if not _ignored(entry.name))
    except OSError:
        return False
