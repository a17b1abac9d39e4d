"""All that one home folder holds, opened once per process."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_tools import replacing
from webui.checks import Checks
from webui.datasets import Datasets
from webui.errors import NotFound
from webui.files import Files
from webui.sessions import Sessions
from webui.store import Store
from webui.uploads import Uploads
from webui.users import LOCAL, User, Users

if TYPE_CHECKING:
    from lora_diffusion import Library
    from webui.jobs import Jobs
    from webui.painter import Painter

__all__ = ["Studio"]

_SHOWN = ("objects", "datasets", "runs", "pictures", "exports", "evaluations", "jobs")
"""Folders whose files a page may show: neither what others sent nor the records beside them."""

_SIDES = (128, 256, 512, 1024)
"""Of thumbnails, in pixels."""


class Studio:
    """A home folder with its library, users, jobs and files. Use `close` when the app ends.

    library.db, objects/    adapters and pictures, see lora_diffusion.library
    studio.db, jobs.db      users, sessions, settings; jobs
    datasets/ runs/ pictures/ exports/ evaluations/ uploads/ tmp/
    """

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        for name in ("datasets", "runs", "pictures", "exports", "evaluations", "uploads", "tmp"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.store = Store(self.home / "studio.db")
        self.users = Users(self.store)
        self.sessions = Sessions(self.store, self.users)
        self.uploads = Uploads(self.home / "uploads")

    @cached_property
    def files(self) -> Files:
        from lora_diffusion import picture_folder, style_names

        demo = picture_folder(f"demo:{style_names()[0]}").parent
        return Files(self.store, (*(self.home / name for name in _SHOWN), demo))

    @cached_property
    def datasets(self) -> Datasets:
        return Datasets(self.store, self.home / "datasets")

    @cached_property
    def checks(self) -> Checks:
        return Checks(self.datasets, self.home / "tmp" / "looks.jsonl")

    @cached_property
    def library(self) -> "Library":
        from lora_diffusion import Library

        return Library.open(self.home)

    @cached_property
    def jobs(self) -> "Jobs":
        from webui.jobs import Jobs

        return Jobs(self.home / "jobs.db")

    @cached_property
    def painter(self) -> "Painter":
        """The process that draws. It starts with the first picture that is asked for, or with `warm`."""
        from webui.painter import Painter

        return Painter(folder=self.home / "tmp")

    def setting(self, user: User, key: str, default: str = "") -> str:
        row = self.store.row("select value from settings where user = ? and key = ?", (user.name, key))
        return row["value"] if row else default

    def keep_setting(self, user: User, key: str, value: str) -> None:
        self.store.write("replace into settings values (?, ?, ?)", (user.name, key, value))

    def shared_setting(self, key: str, default: str = "") -> str:
        """Return a setting of the studio as a whole."""
        row = self.store.row("select value from settings where user = '' and key = ?", (key,))
        return str(row["value"]) if row else default

    def keep_shared_setting(self, key: str, value: str) -> None:
        self.store.write("replace into settings values ('', ?, ?)", (key, value))

    def hand_over(self, heir: User) -> None:
        """Give the first user what the person at this machine made without a name; records of it stay as they are."""
        with self.store.writing() as connection:
            for table, column in (("datasets", "owner"), ("files", "owner"), ("settings", "user")):
                connection.execute(
                    f"update or replace {table} set {column} = ? where {column} = ?", (heir.name, LOCAL.name)
                )
        self.jobs.hand_over(LOCAL.name, heir.name)
        self.keep_shared_setting("heir", heir.name)

    def names_of(self, user: User) -> tuple[str, ...]:
        """Return the names under which a user made things, the latest first."""
        inherits = self.shared_setting("heir").casefold() == user.name.casefold()
        return (user.name, LOCAL.name) if inherits else (user.name,)

    def remember_models(self, folders: Sequence[Path]) -> None:
        """Keep the folders in which base models are looked for. Raises NotFound for one that is none."""
        for folder in folders:
            if not folder.is_dir():
                raise NotFound(f"there is no folder {folder}", hint="name the folder that holds your base models")
        self.keep_shared_setting("models", json.dumps([str(folder.resolve()) for folder in folders]))

    def without_places(self, text: str) -> str:
        """Return a text without where the studio and its base models lie on this machine."""
        return _places(self.home, self.shared_setting("models", "[]")).sub("", text)

    def record(self, what: str, *, by: str, when: str, said: dict[str, Any]) -> None:
        """Write into the audit, which is chained by hash, who did what."""
        self.library.record(what, by=by, when=when, said=said)

    def upload(self, name: str, by: User) -> Path:
        """Return a file that a user sent by its name below uploads/. Raises NotFound for what others sent."""
        path = self.home / "uploads" / name
        if not self.uploads.holds(str(path), by.name):
            raise NotFound("there is no such upload", hint="upload the file again")
        return path.resolve()

    def thumbnail(self, path: Path, side: int) -> Path:
        """Return a small copy of a picture, made once. `side` is rounded up to one of a few."""
        from datasets_tools import load_image

        side = next((each for each in _SIDES if each >= side), _SIDES[-1])
        status = path.stat()
        key = hashlib.blake2b(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\0{side}".encode(), digest_size=16)
        small = self.home / "tmp" / f"{key.hexdigest()}.webp"
        if not small.exists():
            image = load_image(path)
            image.thumbnail((side, side))
            with replacing(small) as aside:
                image.save(aside, format="WEBP", quality=85)
        return small

    def start(self) -> None:
        """Begin what runs beside the app: the styles that come with the package, jobs that were left."""
        if not self.shared_setting("seeded"):
            from webui.commands import run_cli

            run_cli(["library", "seed", "--home", str(self.home)])
            self.keep_shared_setting("seeded", "yes")
        for name in ("files", "datasets", "checks", "library", "painter"):
            getattr(self, name)  # before threads share it: from Python 3.12 on two of them may each make one
        self.jobs.wake()

    def close(self) -> None:
        if "painter" in self.__dict__:
            self.painter.close()


@lru_cache(maxsize=8)
def _places(home: Path, models: str) -> re.Pattern[str]:
    """Return what matches the folders of a studio and of its base models, a JSON list."""
    inside = rf"{re.escape(f'{home}/')}(?:uploads/[0-9a-f]{{64}}/)?"
    return re.compile("|".join([inside, *(re.escape(f"{each}/") for each in json.loads(models))]))
