"""The verbs of the library on the past: history, compare, where-used, withdraw, withdrawals, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_diffusion.cli_home import By, Home, Reason, Ref, change, drawn_line, line_of, opened, person, utc_now
from lora_diffusion.console import Json, answer

if TYPE_CHECKING:
    from lora_diffusion.library import Event, Withdrawal

__all__ = ["VERBS"]

Image = Annotated[str, typer.Argument(help="SHA-256 of a training picture, or the picture itself.")]


def history(
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="NAME, NAME@3, picture:ID, image:SHA256; or all.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1)] = 100,
    before: Annotated[int, typer.Option("--before", help="Number of an event: the page after it.", min=0)] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print who changed what, when and why; the newest first."""
    with opened(home) as found:
        events, head = found.history(ref, limit=limit, before=before), found.head()
    rows = {"events": [each.to_dict() for each in events], "head": head}
    answer(rows, as_json, "\n".join(map(_told, events)) or "nothing happened")


def compare(first: Ref, second: Ref, home: Home = None, as_json: Json = False) -> None:
    """Print what tells two versions apart."""
    with opened(home) as found:
        done = found.compare(first, second)
    lines = [f"{each.section}.{each.key}: {each.first or '-'} -> {each.second or '-'}" for each in done.settings]
    pairs = [(one.path if one else "-", other.path if other else "-") for one, other in done.samples]
    lines += [f"samples: {one} | {other}" for one, other in pairs]
    answer(done.to_dict(), as_json, "\n".join(lines) or "no difference")


def where_used(ref: Ref, home: Home = None, as_json: Json = False) -> None:
    """Print what was made of a version: blends, runs that continued from it, pictures."""
    with opened(home) as found:
        uses = found.where_used(ref)
    lines = [f"blend    {line_of(each)}" for each in uses.blends]
    lines += [f"continued {line_of(each)}" for each in uses.continued]
    lines += [f"picture  {drawn_line(each)}" for each in uses.pictures]
    answer(uses.to_dict(), as_json, "\n".join(lines) or "not used")


def withdraw(image: Image, reason: Reason = "", by: By = "", home: Home = None, as_json: Json = False) -> None:
    """Record that a training picture may no longer be used, and block what was made with it."""
    change(home, by, as_json, lambda found, **who: found.withdraw(_hash_of(image), reason=reason, **who), _touched)


def reinstate(image: Image, reason: Reason = "", by: By = "", home: Home = None, as_json: Json = False) -> None:
    """Take a withdrawal back; what nothing else blocks is free again."""
    with opened(home) as found:
        free = found.reinstate(_hash_of(image), by=person(by), when=utc_now(), reason=reason)
    answer({"versions": [each.to_dict() for each in free]}, as_json, "\n".join(map(line_of, free)) or "nothing is free")


def withdrawals(home: Home = None, as_json: Json = False) -> None:
    """Print every withdrawn picture with what it touches."""
    with opened(home) as found:
        every = found.withdrawals()
    lines = [f"{each.sha256} {each.reason}: {len(each.versions) + len(each.descendants)} versions" for each in every]
    answer({"withdrawals": [each.to_dict() for each in every]}, as_json, "\n".join(lines) or "nothing was withdrawn")


def verify(
    head: Annotated[str, typer.Option("--head", help="An older last hash of `history`, kept elsewhere.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Read everything again, and find every byte that changed. Exit 1 on a fault."""
    from dataclasses import asdict

    with opened(home) as found:
        faults = found.verify(head)
    lines = [f"{each.severity} {each.file}: {each.reason}. What to do: {each.remedy}" for each in faults]
    answer(
        {"faults": [asdict(each) for each in faults]}, as_json, "\n".join(lines) or "everything is as it was written"
    )
    if any(each.severity != "notes" for each in faults):
        raise typer.Exit(1)


VERBS = (history, compare, where_used, withdraw, reinstate, withdrawals, verify)


def _hash_of(image: str) -> str:
    from datasets_tools.storage import sha256_file

    return sha256_file(Path(image)) if Path(image).is_file() else image


def _touched(done: "Withdrawal") -> str:
    lines = [f"blocked  {line_of(each)}" for each in (*done.versions, *done.descendants)]
    lines += [f"picture  {drawn_line(each)}" for each in done.pictures]
    return "\n".join(lines) or "nothing was made with it; what is added later will be blocked"


def _told(event: "Event") -> str:
    why = f" ({event.reason})" if event.reason else ""
    return f"{event.number} {event.at} {event.by}: {event.what} {event.subject}{why}"
