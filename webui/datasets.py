"""The sets of pictures: those that people made, each in a folder of its own, and those that come with the package.

datasets/ID/    pictures with captions beside them, rights.csv, the history of edits
demo:NAME       a style of the package, read-only
"""

import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets_tools import replacing_folder
from lora_diffusion import picture_folder, style_names
from webui.errors import BadRequest, NotAllowed, NotFound, TooMany
from webui.store import Store
from webui.users import User, allows

__all__ = ["Datasets", "Doing", "PictureSet"]

_DEMO = "demo:"
_MOST_SETS = 2_000  # of one studio: a bound on what a script can make by mistake
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """One set. `source` is what a plan names as data.folder: a path, or "demo:NAME"."""

    id: str
    name: str
    owner: str
    created: str
    folder: Path
    read_only: bool = False

    @property
    def source(self) -> str:
        return self.id if self.read_only else str(self.folder)


@dataclass(frozen=True, kw_only=True)
class Doing:
    """What is being done with a set at this moment, and how far it is."""

    what: str
    done: int = 0
    total: int = 0


class Datasets:
    """The sets of one studio. One addition or check of a set runs at a time; `doing` tells how far it is."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._lock = threading.Lock()
        self.decoding = threading.Semaphore(1)
        """Held while a picture from outside is decoded: one of 64 million pixels takes half a gigabyte."""
        self._locks: dict[str, threading.Lock] = {}
        self._doing: dict[str, Doing] = {}

    def all(self) -> list[PictureSet]:
        """Return the sets that people made, the newest first, and then those of the package."""
        rows = self._store.rows("select * from datasets where not removed order by created desc, rowid desc")
        return [*(_from(row) for row in rows), *(_demo(name) for name in style_names())]

    def find(self, id: str) -> PictureSet:
        """Return a set by its id. Raises NotFound, also for one that was removed."""
        if id.startswith(_DEMO) and id.removeprefix(_DEMO) in style_names():
            return _demo(id.removeprefix(_DEMO))
        row = self._store.row("select * from datasets where id = ? and not removed", (id,))
        if row is None:
            raise NotFound("there is no such set of pictures", hint="choose one on the page Picture sets")
        return _from(row)

    def writable(self, id: str) -> PictureSet:
        """Return a set that may be changed. Raises BadRequest for one of the package."""
        found = self.find(id)
        if found.read_only:
            raise BadRequest(f"{found.name} comes with the studio and stays as it is", hint="make a copy and change it")
        return found

    def create(self, name: str, *, owner: str, when: str) -> PictureSet:
        """Make an empty set. Raises BadRequest for a name that says nothing."""
        name = _named(name)
        if len(self._store.rows("select id from datasets where not removed")) >= _MOST_SETS:
            raise TooMany(f"there are {_MOST_SETS} sets already", hint="remove some that are not needed")
        id = secrets.token_hex(8)
        folder = self._folder / id
        folder.mkdir(parents=True)
        self._insert(id, name, folder, owner, when)
        return self.find(id)

    def copy_demo(self, style: str, *, owner: str, when: str) -> PictureSet:
        """Make a set of one's own out of one of the package."""
        if style not in style_names():
            raise NotFound(
                f"no style {style[:40]!r} comes with the studio", hint=f"use one of {', '.join(style_names())}"
            )
        id = secrets.token_hex(8)
        with replacing_folder(self._folder / id) as aside:
            shutil.copytree(picture_folder(f"{_DEMO}{style}"), aside, dirs_exist_ok=True)
        self._insert(id, style.capitalize(), self._folder / id, owner, when)
        return self.find(id)

    def remove(self, id: str, user: User) -> None:
        """Hide a set; its files stay until the studio is cleaned up. Raises NotAllowed where it is another's."""
        found = self.writable(id)
        if found.owner != user.name and not allows(user, "admin"):
            raise NotAllowed(f"{found.name} belongs to {found.owner}", hint="ask them or an admin")
        self._store.write("update datasets set removed = 1 where id = ?", (id,))

    def doing(self, id: str) -> Doing | None:
        """Return what is being done with a set, or None."""
        return self._doing.get(id)

    @contextmanager
    def busy(self, id: str, what: str) -> Iterator[Progress]:
        """Hold a set for one long piece of work and yield how its progress is told: (done, total)."""
        with self._lock:
            lock = self._locks.setdefault(id, threading.Lock())
        with lock:
            self._doing[id] = Doing(what=what)

            def told(done: int, total: int) -> None:
                self._doing[id] = Doing(what=what, done=done, total=total)

            try:
                yield told
            finally:
                del self._doing[id]

    def _insert(self, id: str, name: str, folder: Path, owner: str, when: str) -> None:
        row = (id, name, str(folder), owner, when)
        self._store.write("insert into datasets (id, name, folder, owner, created) values (?, ?, ?, ?, ?)", row)


def _demo(name: str) -> PictureSet:
    folder = picture_folder(f"{_DEMO}{name}")
    return PictureSet(id=f"{_DEMO}{name}", name=name.capitalize(), owner="", created="", folder=folder, read_only=True)


def _from(row: object) -> PictureSet:
    import sqlite3

    assert isinstance(row, sqlite3.Row)
    return PictureSet(
        id=row["id"], name=row["name"], owner=row["owner"], created=row["created"], folder=Path(row["folder"])
    )


def _named(name: str) -> str:
    """Return a name on one line without signs that cannot be seen."""
    spaced = re.sub(r"\s+", " ", name)
    tidy = "".join(letter for letter in spaced if letter.isprintable()).strip()
    if not tidy.strip(". "):
        raise BadRequest("a set needs a name", hint="such as Spring campaign")
    if "/" in tidy or "\\" in tidy:
        raise BadRequest("the name of a set has no slash", hint="write Spring - Summer instead of Spring/Summer")
    return tidy
