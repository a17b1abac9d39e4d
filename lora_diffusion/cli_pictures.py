"""The verbs of the library on drawn pictures: pictures, picture, star, judge."""

from pathlib import Path
from typing import Annotated

import typer

from lora_diffusion.cli_home import By, Home, Reason, change, drawn_line, opened
from lora_diffusion.console import Json, answer

__all__ = ["VERBS"]

PictureId = Annotated[str, typer.Argument(metavar="ID", help="Id of a picture, as `pictures` shows it.")]


def pictures(
    text: Annotated[str, typer.Argument(help="Words of the prompt.")] = "",
    drawn_by: Annotated[str, typer.Option("--drawn-by")] = "",
    starred: Annotated[bool | None, typer.Option("--starred/--not-starred")] = None,
    before: Annotated[str, typer.Option("--before", help="Id of a picture: the page after it.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 60,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print the pictures that are kept, the newest first."""
    with opened(home) as found:
        rows = found.pictures(text=text, by=drawn_by, starred=starred, before=before, limit=limit)
    answer({"pictures": [each.to_dict() for each in rows]}, as_json, "\n".join(map(drawn_line, rows)) or "no pictures")


def picture(
    file: Annotated[Path, typer.Argument(help="Picture that was drawn here.")],
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Keep a picture with the settings that it carries."""
    from dataclasses import asdict

    from lora_diffusion.generation.picture import read_settings

    settings = read_settings(file)
    adapters = [(settings.fingerprints[name], weight) for name, weight in settings.adapters.items()]
    drawn = {"settings": asdict(settings), "adapters": adapters}
    change(home, by, as_json, lambda found, **who: found.add_picture(file, **drawn, **who), drawn_line)


def star(
    picture_id: PictureId,
    off: Annotated[bool, typer.Option("--off", help="Take the mark away.")] = False,
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Mark a picture as a favourite."""
    change(home, by, as_json, lambda found, **who: found.star(picture_id, not off, **who), drawn_line)


def judge(
    picture_id: PictureId,
    state: Annotated[str, typer.Argument(help='approved, off_brand, or "" to take it back.')],
    reason: Reason = "",
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Approve a picture for use, or report it as off brand."""
    change(
        home, by, as_json, lambda at, **who: at.set_picture_state(picture_id, state, reason=reason, **who), drawn_line
    )


VERBS = (pictures, picture, star, judge)
