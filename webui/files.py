"""Files by opaque id: what a browser may fetch is what a page has shown, and nothing else.

An id is a keyed hash of the path, so the same file keeps its address and nobody can guess one.
"""

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from webui.errors import NotFound
from webui.store import Store
from webui.users import User, allows

__all__ = ["Files", "Shared"]

_INLINE = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
"""Shown in the page; everything else is a download."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A file that may be fetched; `owner` is empty where everyone who is signed in may."""

    path: Path
    name: str
    owner: str

    @property
    def media(self) -> str:
        return _INLINE.get(self.path.suffix.lower() or Path(self.name).suffix.lower(), "application/octet-stream")

    @property
    def inline(self) -> bool:
        return self.media != "application/octet-stream"


class Files:
    """Files below `roots` that pages have shown."""

    def __init__(self, store: Store, roots: tuple[Path, ...]) -> None:
        self._store, self._roots = store, tuple(root.resolve() for root in roots)
        store.write("insert or ignore into settings values ('', 'file_key', ?)", (secrets.token_hex(32),))
        row = store.row("select value from settings where user = '' and key = 'file_key'")
        assert row is not None
        self._key = bytes.fromhex(row["value"])
        self._known: set[str] = set()

    def share(self, path: Path, *, name: str = "", owner: str = "") -> str:
        """Return the address of a file. Raises NotFound for one that lies elsewhere than it may."""
        inside = self._inside(path)
        name = name or inside.name
        said = f"{inside}\0{name}\0{owner}".encode(errors="surrogateescape")
        number = hashlib.blake2b(said, key=self._key, digest_size=16).hexdigest()
        if number not in self._known:
            self._store.write("insert or ignore into files values (?, ?, ?, ?)", (number, str(inside), name, owner))
            self._known.add(number)
        return f"/files/{number}"

    def find(self, number: str, user: User) -> Shared:
        """Return the file of an id that this user may fetch; NotFound says no more than that."""
        row = self._store.row("select * from files where id = ?", (number,))
        if row is None or (row["owner"] not in ("", user.name) and not allows(user, "admin")):
            raise NotFound("there is no such file", hint="load the page again")
        return Shared(path=self._inside(Path(row["path"])), name=row["name"], owner=row["owner"])

    def _inside(self, path: Path) -> Path:
        resolved = path.resolve()
        if not any(resolved.is_relative_to(root) for root in self._roots):
            raise NotFound(f"{path.name} is no file of the studio", hint="load the page again")
        try:
            found = os.lstat(resolved)
        except (OSError, ValueError) as error:
            raise NotFound(f"{path.name} is gone", hint="load the page again") from error
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"{path.name} is no file", hint="load the page again")
        return resolved
