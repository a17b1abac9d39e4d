"""The library of adapters: names with numbered versions, their stages, samples and origin, and the pictures drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.library import (
    adding,
    changing,
    comparing,
    history,
    pictures,
    searching,
    seeding,
    tracing,
    verifying,
)
from lora_diffusion.library.adding import NewSample
from lora_diffusion.library.rows import find, lineage_of, object_path, samples_of, version_of
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import (
    STAGES,
    Comment,
    Comparison,
    Details,
    Event,
    Fault,
    LibraryPicture,
    Lineage,
    Package,
    PictureState,
    Sample,
    Uses,
    Version,
    Withdrawal,
)

__all__ = ["Library"]


class Library:
    """One library in one folder, for any number of threads and processes at once; close it, or use it with `with`.

    A reference is NAME (the current version), NAME@NUMBER or NAME@approved; names hold in any case. `by` is who does
    it, `when` the time as ISO-8601 with offset. Every change is one event of the history. Raises UsageError for what
    cannot be, with what there is instead; then nothing was changed. Only `add`, `seed`, `pack` and `unpack` need torch.
    """

    stages = STAGES
    """The stages of a version, in the order in which it goes through them."""
    moves = changing.MOVES
    """From each stage, the stages that may follow."""
    back = changing.BACK
    """Moves (from, to) that need a reason."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, home: Path | str) -> "Library":
        """Open the library in a folder, which is made where it is missing. Raises CorruptFile for a damaged one."""
        store = Store(Path(home))
        try:
            store.prepare()
        except BaseException:
            store.close()
            raise
        return cls(store)

    def close(self) -> None:
        """Close it; no other thread may be using it."""
        self._store.close()

    def __enter__(self) -> "Library":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def home(self) -> Path:
        return self._store.home

    # Versions

    def add(
        self,
        path: Path | str,
        *,
        name: str,
        by: str,
        when: str,
        details: Details = Details(),  # noqa: B008 - frozen
        lineage: Lineage = Lineage(),  # noqa: B008 - frozen
        samples: Sequence[NewSample] = (),
    ) -> Version:
        """Add an adapter file as the next version of a name, in stage draft; imports torch.

        The file is read in full and copied. The same file under the same name gives the version that is there. Trigger
        and licence that are not given are taken from the file, and so are the parents of a blend. Raises as
        `read_adapter` does, and UnreadableImage for a sample.
        """
        return adding.add(
            self._store,
            Path(path),
            name=name,
            by=by,
            when=when,
            details=details,
            lineage=lineage,
            samples=samples,
        )

    def versions(
        self, *, text: str = "", stage: str = "", family: str = "", tag: str = "", name: str = "", every: bool = False
    ) -> list[Version]:
        """Return the current version of each name, or `every` version, by name and then newest first.

        Each word of `text` must stand in name, trigger, tags, notes or licence.
        """
        return searching.versions(self._store, text=text, stage=stage, family=family, tag=tag, name=name, every=every)

    def version(self, ref: str) -> Version:
        """Return the version that a reference means."""
        with self._store.reading() as connection:
            return version_of(find(connection, ref))

    def path(self, ref: str) -> Path:
        """Return the adapter file, which must not be changed; see `Version.warning` for why it may not be used.

        Size and time are trusted. Raises CorruptFile where the file is gone or was changed.
        """
        with self._store.reading() as connection:
            return object_path(connection, self._store.objects, find(connection, ref)["sha256"])

    def object(self, sha256: str) -> Path:
        """Return a file that the library keeps (adapter, sample, thumbnail, picture) by its hash; as `path` does."""
        with self._store.reading() as connection:
            return object_path(connection, self._store.objects, sha256)

    def lineage(self, ref: str) -> Lineage:
        """Return where a version comes from; parents that the library has are named NAME@NUMBER."""
        with self._store.reading() as connection:
            return lineage_of(connection, find(connection, ref))

    def describe(self, ref: str, *, by: str, when: str, **changes: Any) -> Version:
        """Change fields of `Details`; a Path as `thumbnail` is copied into the library."""
        return changing.describe(self._store, ref, by=by, when=when, changes=changes)

    def promote(self, ref: str, stage: str, *, by: str, when: str, reason: str = "") -> Version:
        """Move a version to another stage, as `MOVES` allows; going back needs a reason.

        Approving makes it what the name means; a blocked version cannot be approved.
        """
        return changing.promote(self._store, ref, stage, by=by, when=when, reason=reason)

    def rollback(self, name: str, number: int, *, by: str, when: str, reason: str) -> Version:
        """Let a name mean an approved version again; no file is touched."""
        return changing.rollback(self._store, name, number, by=by, when=when, reason=reason)

    def rename(self, name: str, new: str, *, by: str, when: str, reason: str = "") -> Version:
        """Give all versions of a name another one; the id and the history stay."""
        return changing.rename(self._store, name, new, by=by, when=when, reason=reason)

    def add_sample(
        self,
        ref: str,
        path: Path | str,
        *,
        by: str,
        when: str,
        prompt: str = "",
        seed: int | None = None,
        weight: float | None = None,
    ) -> Sample:
        """Keep a picture that shows a version; what is not given is read from a picture drawn here."""
        sample = NewSample(path=Path(path), prompt=prompt, seed=seed, weight=weight)
        sha256 = adding.add_sample(self._store, ref, sample, by=by, when=when)
        return next(each for each in self.samples(ref) if each.sha256 == sha256)

    def samples(self, ref: str) -> list[Sample]:
        """Return the samples of a version in the order in which they were added."""
        with self._store.reading() as connection:
            return samples_of(connection, self._store.objects, find(connection, ref))

    def compare(self, first: str, second: str) -> Comparison:
        """Return what tells two versions apart: plan, file, metadata, details, and samples side by side."""
        return comparing.compare(self._store, first, second)

    def comment(self, ref: str, text: str, *, by: str, when: str) -> Comment:
        """Say something about a version."""
        return changing.comment(self._store, ref, text, by=by, when=when)

    def comments(self, ref: str) -> list[Comment]:
        """Return what was said about a version, oldest first."""
        return changing.comments(self._store, ref)

    # Origin

    def where_used(self, ref: str) -> Uses:
        """Return what was made of a version directly; the same weights under another name count."""
        return tracing.where_used(self._store, ref)

    def trained_on(self, image_sha256: str) -> list[Version]:
        """Return the versions that have a picture among their training pictures."""
        return tracing.trained_on(self._store, image_sha256)

    def withdraw(self, image_sha256: str, *, by: str, when: str, reason: str) -> Withdrawal:
        """Record that a training picture may no longer be used, and block every version that it is in.

        Blocked are those trained on it and what was made of them at any distance, also what is added later. They
        still draw; they cannot be approved. A second call changes nothing but blocks what became known since.
        """
        return tracing.withdraw(self._store, image_sha256, by=by, when=when, reason=reason)

    def reinstate(self, image_sha256: str, *, by: str, when: str, reason: str) -> tuple[Version, ...]:
        """Take a withdrawal back, and return the versions that it touched and nothing else blocks."""
        return tracing.reinstate(self._store, image_sha256, by=by, when=when, reason=reason)

    def withdrawn(self) -> dict[str, str]:
        """Return the reason for each picture that is withdrawn now, by its SHA-256."""
        return tracing.withdrawn(self._store)

    def withdrawals(self) -> list[Withdrawal]:
        """Return every withdrawn picture with what it touches now, oldest first."""
        return tracing.withdrawals(self._store)

    # Pictures

    def add_picture(
        self,
        path: Path | str,
        *,
        by: str,
        when: str,
        settings: Mapping[str, Any],
        adapters: Sequence[tuple[str, float]] = (),
    ) -> LibraryPicture:
        """Keep a drawn picture (PNG, JPEG or WebP). `adapters` are (reference or fingerprint, weight)."""
        return pictures.add_picture(self._store, Path(path), by=by, when=when, settings=settings, adapters=adapters)

    def pictures(
        self,
        *,
        text: str = "",
        by: str = "",
        starred: bool | None = None,
        state: PictureState | None = None,
        before: str = "",
        limit: int = 60,
    ) -> list[LibraryPicture]:
        """Return pictures, newest first; each word of `text` must stand in the prompt.

        `before` is the id of a picture: the page after it. `limit` is at most 1000.
        """
        return pictures.pictures(
            self._store, text=text, by=by, starred=starred, state=state, before=before, limit=limit
        )

    def picture(self, picture_id: str) -> LibraryPicture:
        """Return one picture by its id."""
        return pictures.picture(self._store, picture_id)

    def star(self, picture_id: str, on: bool = True, *, by: str, when: str) -> LibraryPicture:
        """Mark a picture as a favourite, or take the mark away."""
        what = "star" if on else "unstar"
        return pictures.change_picture(self._store, picture_id, what, by=by, when=when, starred=int(on))

    def set_picture_state(
        self, picture_id: str, state: PictureState, *, by: str, when: str, reason: str = ""
    ) -> LibraryPicture:
        """Approve a picture for use, report it as off brand (which needs a reason), or take either back with ""."""
        if state not in pictures.STATES:
            raise UsageError(f"a picture cannot be {state!r}", hint="it can be approved, off_brand or nothing")
        if state == "off_brand" and not reason.strip():
            raise UsageError("a picture is off brand without a reason", hint="say what is wrong with it")
        what = state.replace("_", " ") or "undecided"
        return pictures.change_picture(self._store, picture_id, what, by=by, when=when, state=state, reason=reason)

    # The whole

    def history(self, ref_or_name: str = "", *, limit: int = 100, before: int = 0) -> list[Event]:
        """Return the changes of a version, of a name, of picture:ID, of image:SHA256 or of all, newest first.

        `before` is the number of an event: the page after it.
        """
        return history.history(self._store, ref_or_name, limit, before)

    def record(self, what: str, *, by: str, when: str, said: Mapping[str, Any]) -> None:
        """Write into the history that something was done beside the library, with what was said to it, plain JSON."""
        history.record(self._store, what, by=by, when=when, said=said)

    def head(self) -> str:
        """Return the hash of the last event; kept elsewhere, it proves later that no event was taken back."""
        return history.head(self._store)

    def verify(self, head: str = "") -> list[Fault]:
        """Read everything, and find every changed byte in objects and rows, and every break in the history.

        `head` is an older result of `head`, which must still stand in the history. Faults that are only noted (files
        that no row names, as a killed `add` leaves them) are no damage.
        """
        return verifying.verify(self._store, head)

    def pack(self, ref: str, out: Path | str, *, privacy: str = "team", overwrite: bool = False) -> Package:
        """Write one zip for others: adapter, card, samples, and their hashes; imports torch.

        `privacy` is as in `export`; what it withholds from the adapter is named in the result.
        """
        from lora_diffusion.library.packing import pack

        return pack(self, ref, Path(out), privacy=privacy, overwrite=overwrite)

    def unpack(self, path: Path | str, *, by: str, when: str, name: str = "") -> Version:
        """Add what a package holds as a draft, under its own name or another; imports torch.

        Nothing of it is trusted: names, counts, sizes, ratios and hashes are checked on the bytes that come out.
        Raises CorruptFile naming what is wrong; then nothing was added.
        """
        from lora_diffusion.library.unpacking import unpack

        return unpack(self, Path(path), by=by, when=when, name=name)

    def seed(self, *, when: str) -> list[Version]:
        """Add the adapters that come with the package as approved, once per library; imports torch."""
        return seeding.seed(self._store, when=when)
