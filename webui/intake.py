"""Pictures from outside on their way into a set: decoded, limited, turned upright and written anew as PNG.

What is kept holds pixels and nothing else: no EXIF, no place, no profile, and no bytes that somebody else wrote. What
cannot be kept is named with its reason, and the rest goes on.
"""

import hashlib
import io
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets_tools import DatasetError, Limits, OutOfSpace, decode_text, load_image, set_captions, tidy, write_bytes
from webui.archives import MAX_ENTRY, Entry, is_archive, read_archive
from webui.errors import StudioError

__all__ = ["MAX_PICTURES", "Refused", "Taken", "Upload", "take_in"]

MAX_PICTURES = 2_000  # of one set: a style takes 10 to 50
LONGEST, SHORTEST = 4096, 32
"""Pixels of a side that is kept: training uses at most a quarter of the first; the second is less than an icon."""

_LIMITS = Limits(max_bytes=MAX_ENTRY)
_NAME_BYTES = 120
_TAKEN_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_NOT_TAKEN = "only pictures and captions (.txt) are taken"


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that was not kept, and why."""

    name: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What came of an upload: the names under which pictures were kept, how many captions, and what was refused."""

    added: tuple[str, ...]
    captions: int
    refused: tuple[Refused, ...]


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that was sent, under the name that its sender gave it."""

    name: str
    path: Path


def take_in(
    folder: Path,
    uploads: Sequence[Upload],
    *,
    decoding: AbstractContextManager[object],
    when: str,
    on_progress: Callable[[int, int], None],
) -> Taken:
    """Put pictures, zips of pictures and captions of the same names into a folder.

    `decoding` is entered around the decoding of each picture. Raises OutOfSpace; what was kept until then stays.
    """
    intake = _Intake(folder, decoding)
    for done, upload in enumerate(uploads):
        on_progress(done, len(uploads))
        try:
            intake.take(upload)
        except OutOfSpace:
            raise
        except (StudioError, DatasetError) as error:
            intake.refuse(upload.name, str(error), error.hint)
        except OSError as error:
            intake.refuse(upload.name, error.strerror or "it cannot be read", "send it again")
    captions = intake.write_captions(when)
    on_progress(len(uploads), len(uploads))
    return Taken(added=tuple(intake.added), captions=captions, refused=tuple(intake.refused))


class _Intake:
    """One run of `take_in`: what is there, what came, what was refused."""

    def __init__(self, folder: Path, decoding: AbstractContextManager[object]) -> None:
        self._folder, self._decoding = folder, decoding
        self.added: list[str] = []
        self.refused: list[Refused] = []
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        self._stems = {path.stem.casefold() for path in files}
        self._kept = {path.stem.casefold(): path.name for path in files if path.suffix == ".png"}
        self._sizes: dict[int, list[Path]] = {}
        for path in files:
            self._sizes.setdefault(path.stat().st_size, []).append(path)
        self._pictures = len(self._kept)
        self._came: dict[str, str] = {}  # what a caption may be called -> the name of its picture in the set
        self._captions: dict[str, tuple[str, str]] = {}  # key -> (name as sent, text)

    def refuse(self, name: str, reason: str, hint: str = "") -> None:
        self.refused.append(Refused(name=_shown(name), reason=reason, hint=hint))

    def take(self, upload: Upload) -> None:
        with upload.path.open("rb") as file:
            head = file.read(4)
        if is_archive(head):
            for entry in read_archive(upload.path):
                self._take_entry(entry, f"{upload.path}/")
        elif upload.path.stat().st_size > MAX_ENTRY:
            self.refuse(upload.name, f"it is larger than {MAX_ENTRY // 2**20} MB", "export it smaller")
        else:
            self._take(upload.name, upload.path.read_bytes(), "")

    def _take_entry(self, entry: Entry, inside: str) -> None:
        if entry.refused:
            self.refuse(entry.name, entry.refused)
        elif is_archive(entry.data[:4]):
            self.refuse(entry.name, "it is an archive inside an archive", "unpack it and send the pictures")
        else:
            try:
                self._take(entry.name, entry.data, inside)
            except OutOfSpace:
                raise
            except DatasetError as error:
                self.refuse(entry.name, str(error), error.hint)

    def _take(self, name: str, data: bytes, inside: str) -> None:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.suffix.lower() == ".txt":
            key = f"{inside}{path.with_suffix('')}".casefold()
            self._captions[key] = (name, tidy(decode_text(data, _shown(path.name))))
            return
        if self._pictures >= MAX_PICTURES:
            self.refuse(name, f"the set has {MAX_PICTURES} pictures, which is the most", "make another set")
            return
        kept = self._keep(path, data)
        if kept:
            self._came[f"{inside}{path}".casefold()] = self._came[f"{inside}{path.with_suffix('')}".casefold()] = kept

    def _keep(self, path: PurePosixPath, data: bytes) -> str:
        with self._decoding:
            png = _as_png(data)
        twin = next((each for each in self._sizes.get(len(png), ()) if _same(each, png)), None)
        if twin is not None:
            self.refuse(str(path), f"it is in the set already, as {twin.name}")
            return ""
        name = f"{self._free(_safe(path.stem))}.png"
        write_bytes(self._folder / name, png)
        self._sizes.setdefault(len(png), []).append(self._folder / name)
        self._pictures += 1
        self.added.append(name)
        return name

    def write_captions(self, when: str) -> int:
        """Write the captions that came, each for the picture that came with it, or else for one that was there."""
        texts: dict[str, str] = {}
        for key, (name, text) in self._captions.items():
            picture = self._came.get(key) or self._kept.get(PurePosixPath(key).name)
            if picture is None:
                self.refuse(name, "no picture has this name", "call the caption like its picture, ending in .txt")
            else:
                texts[picture] = text
        return len(set_captions(self._folder, texts, when=when).edited) if texts else 0

    def _free(self, stem: str) -> str:
        """Return a name that no file of the set has, on any system."""
        number, free = 1, stem
        while free.casefold() in self._stems:
            number += 1
            free = f"{stem}-{number}"
        self._stems.add(free.casefold())
        return free


def _as_png(data: bytes) -> bytes:
    """Return the pixels of a picture as PNG. Raises UnreadableImage for anything else, and DatasetError for too few."""
    from PIL.Image import Resampling

    image = load_image(data, limits=_LIMITS)
    image.thumbnail((LONGEST, LONGEST), resample=Resampling.LANCZOS)
    if min(image.size) < SHORTEST:
        size = f"{image.width} x {image.height}"
        raise DatasetError(f"it has {size} pixels, fewer than {SHORTEST} on a side", hint="find a larger version")
    image.info = {}
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=4)  # 12 MP: 1.3 s and 10.2 MB; level 6 takes 3.8 s for the same
    return buffer.getvalue()


def _same(path: Path, data: bytes) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()


def _safe(stem: str) -> str:
    """Return a name of letters, digits and a few signs that every system takes."""
    signs = (sign if unicodedata.category(sign)[0] in "LMN" or sign in " -_()" else "_" for sign in _composed(stem))
    short = "".join(signs).encode()[:_NAME_BYTES].decode(errors="ignore")
    name = " ".join(short.split()).strip(" _-") or "picture"
    return f"_{name}" if name.casefold() in _TAKEN_NAMES else name


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())


def _shown(name: str) -> str:
    """Return a name from outside as one short printable line."""
    return "".join(sign if sign.isprintable() else "?" for sign in name.encode("utf-8", "replace").decode())[:120]
