"""Several pictures that differ in what one wants to compare: with and without styles, and grids of settings."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lora_diffusion import LibraryPicture, samplers
from webui.actions import At, action
from webui.actions.pictures import Drawn, Settings, draw
from webui.errors import BadRequest
from webui.sheets import Cell, draw_sheet

__all__ = ["Axis", "Shown"]

MAX_CELLS = 64

By = Literal["style", "second_style", "all_styles", "seed", "steps", "guidance", "sampler", "prompt"]


class Axis(BaseModel):
    """What varies along one side of a grid. Weights are per cent, `prompt` values are whole prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: By
    values: Annotated[tuple[Annotated[str, Field(max_length=500)], ...], Field(min_length=1, max_length=16)]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An event: step with the part that is done, pair, sheet, failed or stopped."""

    event: str
    part: float = 0.0
    pictures: tuple[LibraryPicture, ...] = ()
    sheet: Path | None = None
    reason: str = ""
    hint: str = ""


@action(role="creator", same_as="generate")
def compare(at: At, *, settings: Settings) -> Iterator[Shown]:
    """Draw one picture without and with its styles, from the same seed."""
    if not settings.styles:
        raise BadRequest("there is no style to compare with", hint="choose one under Styles")
    fixed = _seeded(settings)
    return _compared(at, [fixed.model_copy(update={"styles": ()}), fixed])


@action(role="creator", same_as="generate")
def grid(
    at: At, *, settings: Settings, axes: Annotated[tuple[Axis, ...], Field(min_length=1, max_length=3)]
) -> Iterator[Shown]:
    """Draw a grid of pictures that differ in one to three settings, as one sheet with headings."""
    _require_effect(settings, axes)
    fixed = _seeded(settings)
    cells = list(product(*(range(len(axis.values)) for axis in axes)))
    if len(cells) > MAX_CELLS:
        raise BadRequest(
            f"a grid of {len(cells)} pictures is too large", hint=f"take fewer values: at most {MAX_CELLS}"
        )
    wanted = []
    for places in cells:
        one = fixed
        for axis, place in zip(axes, places, strict=True):
            one = _varied(one, axis, axis.values[place])
        wanted.append(one)
    return _gridded(at, axes, cells, wanted)


def _require_effect(settings: Settings, axes: Sequence[Axis]) -> None:
    """Refuse a grid whose headings would tell of differences that its pictures cannot have."""
    seen: set[object] = set()
    for axis in axes:
        chosen = range(len(settings.styles))[_CHOSEN[axis.by]] if axis.by in _CHOSEN else ()
        if axis.by in _CHOSEN and not chosen:
            raise BadRequest("the grid varies a style that is not there", hint="choose one under Styles")
        if seen & {axis.by, *chosen}:
            raise BadRequest("two sides of the grid vary the same", hint="choose something else for one of them")
        seen |= {axis.by, *chosen}


def _seeded(settings: Settings) -> Settings:
    seed = settings.seed if settings.seed >= 0 else secrets.randbelow(2**32)
    return settings.model_copy(update={"seed": seed, "count": 1})


def _compared(at: At, wanted: Sequence[Settings]) -> Iterator[Shown]:
    pictures: list[LibraryPicture] = []
    yield from _each(at, wanted, pictures)
    if len(pictures) == len(wanted):
        yield Shown(event="pair", part=1.0, pictures=tuple(pictures))


def _gridded(
    at: At, axes: Sequence[Axis], cells: Sequence[tuple[int, ...]], wanted: Sequence[Settings]
) -> Iterator[Shown]:
    pictures: list[LibraryPicture] = []
    yield from _each(at, wanted, pictures)
    if len(pictures) < len(wanted):
        return
    drawn = [Cell(path=Path(each.path), at=places) for each, places in zip(pictures, cells, strict=True)]
    path = at.studio.home / "pictures" / f"{secrets.token_hex(8)}.png"
    draw_sheet(drawn, [axis.values for axis in axes], path)
    kept = at.studio.library.add_picture(
        path,
        by=at.user.name,
        when=at.when,
        settings={**pictures[0].settings, "grid": [axis.model_dump(mode="json") for axis in axes]},
        adapters=pictures[0].adapters,
    )
    path.unlink()
    yield Shown(event="sheet", part=1.0, pictures=(kept,), sheet=Path(kept.path))


def _each(at: At, wanted: Sequence[Settings], pictures: list[LibraryPicture]) -> Iterator[Shown]:
    """Draw one after the other into `pictures`; the first that fails or is stopped ends it."""
    for number, settings in enumerate(wanted):
        for event in draw(at, settings=settings):
            if event.event == "step":
                yield Shown(event="step", part=(number + event.done / event.total) / len(wanted))
            elif event.event == "picture" and event.picture:
                pictures.append(event.picture)
            elif event.event in ("failed", "stopped"):
                yield _ended(event)
                return


def _ended(event: Drawn) -> Shown:
    return Shown(event=event.event, reason=event.reason, hint=event.hint)


def _varied(settings: Settings, axis: Axis, value: str) -> Settings:
    """Return settings with one value of an axis. Raises BadRequest naming a value that does not fit."""
    try:
        return Settings.model_validate({**settings.model_dump(), **_change(settings, axis, value)})
    except (ValueError, ValidationError):
        raise BadRequest(f"{value!r} does not fit {axis.by}", hint="see the limits of this setting") from None


def _change(settings: Settings, axis: Axis, value: str) -> Mapping[str, Any]:
    match axis.by:
        case "style" | "second_style" | "all_styles":
            styles = [each.model_dump() for each in settings.styles]
            for each in styles[_CHOSEN[axis.by]]:
                each["weight"] = float(value.rstrip(" %")) / 100
            return {"styles": styles}
        case "prompt":
            return {"prompt": value}
        case "seed" | "steps":
            return {axis.by: int(value)}
        case "guidance":
            return {"guidance": float(value)}
        case "sampler":
            _require_sampler(axis, value)
            return {"sampler": value}


def _require_sampler(axis: Axis, value: str) -> None:
    """Refuse a sampler that is not known before anything is drawn: a grid without its last picture is no grid."""
    known = {name.casefold() for each in samplers() for name in (each.name, each.title)}
    if " ".join(value.split()).casefold() not in known:
        titles = ", ".join(each.title for each in samplers())
        raise BadRequest(f"{value!r} does not fit {axis.by}", hint=f"there are: {titles}")


_CHOSEN = {"style": slice(0, 1), "second_style": slice(1, 2), "all_styles": slice(None)}
