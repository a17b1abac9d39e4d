"""`lora-diffusion rights`: see and state who allows the use of the pictures of a folder. It can be undone."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lora_diffusion.console import Json, answer, now, say

__all__ = ["rights"]

rights = typer.Typer(
    help="See and state who allows the use of pictures; `caption undo` takes a statement back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of pictures.")]


@rights.command("list")
def show(folder: Folder, as_json: Json = False) -> None:
    """Print every picture with its rights."""
    from datasets_tools import describe_pictures

    rows = [{"file": each.file, **asdict(each.rights)} for each in describe_pictures(folder)]
    answer({"rights": rows}, as_json, "\n".join(f"{row['file']}: {_told(row)}" for row in rows))


@rights.command("set")
def state(
    folder: Folder,
    files: Annotated[list[str] | None, typer.Argument(help="Pictures; left out: all of them.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help='Who owns them; "" takes it back.')] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Under which licence they may be used.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Where they come from.")] = None,
    consent: Annotated[str | None, typer.Option("--consent", help="Who agreed to the training, and how.")] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="Last day of use, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """State rights of some pictures or of all; what is left out stays as it is."""
    from datasets_tools import set_rights

    done = set_rights(
        folder,
        files=files or None,
        owner=owner,
        licence=licence,
        source=source,
        consent=consent,
        expires=expires,
        when=now(),
    )
    rows = [{"file": file, **asdict(found)} for file, found in done.rights.items()]
    told = "\n".join(f"{row['file']}: {_told(row)}" for row in rows)
    answer({"entry": asdict(done.entry) if done.entry else None, "rights": rows}, as_json, told)
    say("written; `caption undo` takes it back" if done.entry else "nothing had to change")


def _told(row: dict[str, str]) -> str:
    stated = [f"{key} {value}" for key, value in row.items() if key != "file" and value]
    return ", ".join(stated) or "(nothing stated)"
