"""What the drawing process can be asked, one JSON object a line, checked before anything is loaded."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lora_diffusion.errors import UsageError

__all__ = ["MAX_LINE", "Draw", "Quit", "Request", "Stopping", "Unload", "id_of", "parse_request"]

MAX_LINE = 1_000_000
"""Bytes of a request. Sixty-four adapters with long paths and a prompt of 20,000 characters stay far below."""

_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}$")]
_Path = Annotated[str, Field(min_length=1, max_length=4096)]
_Text = Annotated[str, Field(max_length=20_000)]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Draw(_Asked):
    """Draw pictures into a folder: `ID-0.png`, `ID-1.png` and so on, with seeds counted up.

    The fields are the options of `lora-diffusion generate`. `parts` are adapters as `--adapter` takes them, `names`
    what they are called in the picture, by path; `schedules` maps such names to what `parse_schedule` reads. A width or
    height of 0 is the base's. Every so many steps (`preview_every`; 0 is never) a small picture is sent.
    """

    do: Literal["draw"]
    id: _Id
    base: _Path
    tokenizer: Annotated[str, Field(max_length=4096)] = ""
    parts: Annotated[list[_Path], Field(max_length=64)] = []
    names: dict[str, Annotated[str, Field(max_length=200)]] = {}
    prompt: _Text
    negative: _Text = ""
    seed: Annotated[int, Field(ge=0, lt=2**63 - 64)] = 0
    count: Annotated[int, Field(ge=1, le=64)] = 1
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    height: Annotated[int, Field(ge=0, le=4096)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] = 30
    guidance: Annotated[float, Field(ge=0, le=100)] | None = None
    sampler: Annotated[str, Field(max_length=100)] = ""
    image: _Path | None = None
    strength: Annotated[float, Field(gt=0, le=1)] = 0.6
    schedules: dict[str, Annotated[str, Field(max_length=2000)]] = {}
    folder: _Path
    preview_every: Annotated[int, Field(ge=0, le=1000)] = 0

    @model_validator(mode="after")
    def _absolute(self) -> "Draw":
        for path in (self.folder, self.image):
            if path is not None and not Path(path).is_absolute():
                raise ValueError(f"{path} is no absolute path")
        return self

    def path(self, number: int) -> Path:
        """Return where a picture goes."""
        return Path(self.folder) / f"{self.id}-{number}.png"


class Unload(_Asked):
    """Give back the memory of base models and adapters, for example before a training on the same device."""

    do: Literal["unload"]
    id: _Id


class Stopping(_Asked):
    """Stop a request that waits or runs; one that is not known, or done, is no error."""

    do: Literal["stop"]
    id: _Id


class Quit(_Asked):
    """Stop what runs and end the process."""

    do: Literal["quit"]


Request = Draw | Unload | Stopping | Quit
_KINDS: dict[str, type[Request]] = {"draw": Draw, "unload": Unload, "stop": Stopping, "quit": Quit}


def parse_request(line: bytes) -> Request:
    """Read one line. Raises UsageError naming the first field that is wrong, and what it may be."""
    found = _object(line)
    kind = _KINDS.get(str(found.get("do")))
    if kind is None:
        raise UsageError(f"cannot do {found.get('do')!r:.80}", hint=f"`do` is one of {', '.join(_KINDS)}")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(each)[:80] for each in first["loc"]) or "the request"
        raise UsageError(
            f"{where}: {first['msg']}", hint=f"`{found['do']}` takes {', '.join(kind.model_fields)}"
        ) from None


def id_of(line: bytes) -> str | None:
    """Return the id of a request that may be wrong otherwise, or None."""
    try:
        found = _object(line).get("id")
    except UsageError:
        return None
    return found if isinstance(found, str) and len(found) <= 80 else None


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("the line is no JSON", hint="send one JSON object per line, in UTF-8") from None
    if not isinstance(found, dict):
        raise UsageError("the line is no JSON object", hint="send one JSON object per line, in UTF-8")
    return found
