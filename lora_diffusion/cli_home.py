"""What the commands of the library share: where it is, who acts, and NAME@3 wherever an adapter is named."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_diffusion.console import answer, say
from lora_diffusion.errors import UsageError

if TYPE_CHECKING:
    from lora_diffusion.files.adapter import Adapter
    from lora_diffusion.library import Library, LibraryPicture, Version

__all__ = [
    "By",
    "Home",
    "Reason",
    "Ref",
    "change",
    "drawn_line",
    "home_folder",
    "line_of",
    "locate_adapter",
    "opened",
    "person",
    "read_named",
    "utc_now",
    "withdrawn_in",
]

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the library; left out: LORA_DIFFUSION_HOME or ~/.lora-diffusion."),
]
By = Annotated[str, typer.Option("--by", help="Who does it; left out: the login name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; needed to take something back.")]
Ref = Annotated[str, typer.Argument(metavar="REF")]


def home_folder(home: Path | None = None) -> Path:
    """Return the folder of the library: what was given, else LORA_DIFFUSION_HOME, else ~/.lora-diffusion."""
    said = home or os.environ.get("LORA_DIFFUSION_HOME") or "~/.lora-diffusion"
    return Path(said).expanduser()


def locate_adapter(source: Path | str) -> tuple[Path, str]:
    """Return the file that a path or reference of the library means, and what to call the adapter ("" for its own).

    A file or folder that exists wins. Raises UsageError naming both places where neither has it.
    """
    from lora_diffusion.library import Library

    path, home = Path(source), home_folder()
    if os.path.exists(path):
        return path, ""
    if not (home / "library.db").is_file():
        raise UsageError(
            f"there is no file {source}, and no library in {home}",
            hint="check the path, or add adapters with `lora-diffusion library add`",
        )
    with Library.open(home) as found:
        try:
            version = found.version(str(source))
        except UsageError as error:
            raise UsageError(
                f"there is no file {source}, and in the library {home}: {error}", hint=error.hint
            ) from error
        if version.warning:
            say(f"warning: {version.warning}")
        return found.path(version.ref), version.ref


def read_named(source: Path | str) -> "Adapter":
    """Read an adapter from a path or a reference of the library."""
    from lora_diffusion.files.adapter import read_adapter

    path, name = locate_adapter(source)
    return read_adapter(path, name=name or None)


@contextmanager
def opened(home: Path | None) -> "Iterator[Library]":
    """Open the library for the length of a block."""
    from lora_diffusion.library import Library

    with Library.open(home_folder(home)) as found:
        yield found


def change(
    home: Path | None, by: str, as_json: bool, do: Callable[..., Any], line: Callable[[Any], str] | None = None
) -> None:
    """Do something to the library as somebody and print what came of it, by default as a version.

    `do` is called with the library and the keywords `by` and `when`.
    """
    with opened(home) as found:
        done = do(found, by=person(by), when=utc_now())
    answer(done.to_dict(), as_json, (line or line_of)(done))


def withdrawn_in(home: Path | None) -> Mapping[str, str]:
    """Return why pictures may no longer be used, by SHA-256; nothing where there is no library."""
    if not (home_folder(home) / "library.db").is_file():
        return {}
    with opened(home) as found:
        return found.withdrawn()


def person(by: str) -> str:
    """Return who acts: what was given, else the login name. Raises UsageError where there is neither."""
    import getpass

    try:
        return by or getpass.getuser()
    except (OSError, KeyError):  # no login name, as in some containers
        raise UsageError("it is not known who you are", hint="give your name with --by") from None


def utc_now() -> str:
    """Return the time as the library keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def line_of(version: "Version") -> str:
    """Return a version as one line; * marks what its name means."""
    current = "*" if version.current else " "
    blocked = " BLOCKED" if version.blocked else ""
    trigger = f"  {version.details.trigger}" if version.details.trigger else ""
    return f"{current} {version.ref:24} {version.stage:9} {version.family:5}{trigger}{blocked}"


def drawn_line(kept: "LibraryPicture") -> str:
    """Return a picture as one line."""
    marks = " ".join([*(["starred"] if kept.starred else []), *([kept.state] if kept.state else [])])
    return f"{kept.id} {kept.at} {kept.by} {kept.settings.get('prompt', '')} {marks}".rstrip()
