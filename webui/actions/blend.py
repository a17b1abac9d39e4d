"""Blends: how styles get along, what to remember of a mix, and freezing it into a file."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets_tools import write_json
from lora_diffusion import preset_bars, preset_names, require_name
from webui.actions import At, action
from webui.actions.bases import path_of
from webui.actions.jobs import JobRow, row_of
from webui.actions.pictures import Style, Styles, Uploaded, require_in_use
from webui.commands import run_cli
from webui.errors import BadRequest, NotFound
from webui.release import require_release
from webui.users import allows

__all__ = ["KINDS", "Frozen", "Meeting", "Preset", "Recipe"]

KINDS = ("recipe", "exact", "compact", "merged")
FREEZINGS = ("blend", "merge")
"""Kinds of jobs."""

MADE = "blend.safetensors"
RECIPES = "blend:recipe:"
"""Begins the key of a setting that tells of a recipe; its folder's name follows."""

MAX_RECIPE = 100_000
"""Bytes; eight styles take two thousand."""

Name = Annotated[str, Field(min_length=1, max_length=64)]
Slot = Literal["A", "B", "C"]


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """How two styles get along as a whole: `verdict` is same, alike, opposed, entangled or independent."""

    first: str
    second: str
    verdict: str
    cosine: float
    overlap: float
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named choice of blocks: `says` in plain words, `bars` the factor of each block in the model's order."""

    name: str
    says: str
    bars: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A mix that was frozen: a recipe or merged checkpoint as `file`, a style of the library as `ref`; UTC `when`."""

    name: str
    kind: Literal["recipe", "style", "merged"]
    when: str
    file: Path | None = None
    ref: str = ""


class Recipe(BaseModel):
    """A blend as a small file: the styles with their weights, and the hash of each so that it means the same later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["lora-diffusion blend recipe"] = "lora-diffusion blend recipe"
    version: Literal[1] = 1
    name: Name
    styles: Annotated[tuple[Style, ...], Field(min_length=1, max_length=8)]
    fingerprints: dict[Annotated[str, Field(max_length=80)], Annotated[str, Field(max_length=128)]] = {}


@action(role="viewer", writes=False)
def presets(at: At) -> list[Preset]:
    """List the named choices of blocks: what a picture keeps of a style then."""
    found = [preset_bars(name, family="sd1") for name in preset_names()]
    return [Preset(name=each.name, says=each.plain, bars=dict(each.factors)) for each in found]


@action(role="creator", writes=False, same_as="conflict")
def conflict(at: At, *, styles: Styles) -> list[Meeting]:
    """Say of each pair of styles how they get along; a pair takes a second or two the first time."""
    return [_meet(at, first.ref, second.ref) for first, second in combinations(styles, 2)]


def _meet(at: At, first: str, second: str) -> Meeting:
    one, two = (at.studio.library.version(ref) for ref in (first, second))
    key = f"conflict:{':'.join(sorted((one.fingerprint, two.fingerprint)))}"
    kept = at.studio.shared_setting(key)
    if not kept:
        paths = [str(at.studio.library.path(each.ref)) for each in (one, two)]
        found = run_cli(["conflict", *paths])
        whole = found["whole"]
        kept = json.dumps({**whole, "meaning": found["meanings"][whole["verdict"]]})
        at.studio.keep_shared_setting(key, kept)
    said = json.loads(kept)
    return Meeting(
        first=one.name,
        second=two.name,
        verdict=said["verdict"],
        cosine=said["cosine"],
        overlap=said["overlap"],
        meaning=said["meaning"],
    )


@action(role="creator", writes=False)
def remember(at: At, *, slot: Slot, styles: Styles) -> None:
    """Keep a mix in one of your three slots."""
    at.studio.keep_setting(at.user, f"blend:{slot}", json.dumps([each.model_dump() for each in styles]))


@action(role="creator", writes=False)
def recall(at: At, *, slot: Slot) -> list[Style]:
    """Return the mix of a slot; an empty list where none was kept."""
    return [Style(**each) for each in json.loads(at.studio.setting(at.user, f"blend:{slot}", "[]"))]


@action(role="viewer", writes=False)
def suggest(at: At) -> list[dict[str, Any]]:
    """Return a mix to begin with: the first two approved styles, so that nobody faces an empty page."""
    found = at.studio.library.versions(stage="approved")[:2]
    return [{"ref": each.ref, "weight": weight} for each, weight in zip(found, (0.4, 0.8), strict=False)]


@action(role="creator", writes=False)
def open_recipe(at: At, *, upload: Uploaded) -> Recipe:
    """Read a recipe file. Raises BadRequest where it is none, or where a style is not the one that it means."""
    path = at.studio.upload(upload, at.user)
    if path.stat().st_size > MAX_RECIPE:
        raise BadRequest("this is no recipe: it is too large", hint="drop the .json that Freeze wrote")
    try:
        found = Recipe.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadRequest("this is no recipe of a blend", hint="drop the .json that Freeze wrote") from error
    for ref, meant in found.fingerprints.items():
        if at.studio.library.version(ref).fingerprint != meant:
            raise BadRequest(f"{ref} is not the style that the recipe means", hint="ask for the package of that style")
    return found


@action(role="creator", same_as="blend|merge")
def freeze(
    at: At,
    *,
    name: Name,
    styles: Annotated[tuple[Style, ...], Field(min_length=1, max_length=8)],
    kind: Literal["recipe", "exact", "compact", "merged"] = "exact",
    keep: Annotated[float, Field(gt=0, le=1)] = 0.99,
    precision: Literal["fp16", "bf16", "fp32", "fp8"] = "fp16",
) -> JobRow | dict[str, Any]:
    """Make a file of a mix: a recipe at once; an exact or a compact style, or a merged checkpoint, as a job.

    Exact and compact styles go into the library as drafts; their job says how far they are from the mix. A merged
    checkpoint may be made by those who may export each of its styles.
    """
    if any(each.schedule for each in styles) and kind != "recipe":
        raise BadRequest(
            "a file cannot hold a course over the steps", hint="freeze it as a recipe, or take the course off"
        )
    if kind in ("exact", "compact"):  # which go into the library: a name that it refuses is told before the work
        require_name(name)
        for each in styles:
            require_in_use(at, each)
    folder = at.studio.home / "exports" / secrets.token_hex(8)
    if kind == "recipe":
        prints = {each.ref: at.studio.library.version(each.ref).fingerprint for each in styles}
        path = folder / "recipe.json"
        write_json(path, Recipe(name=name, styles=styles, fingerprints=prints).model_dump(mode="json"))
        kept = {"name": name, "when": at.when, "file": str(path.relative_to(at.studio.home))}
        at.studio.keep_setting(at.user, f"{RECIPES}{folder.name}", json.dumps(kept))
        return {"recipe": path}
    if kind == "merged":  # a file that leaves the studio; the others go into the library, as drafts
        for each in styles:
            require_release(at.user, at.studio.library.version(each.ref))
    parts = [_part(at, each) for each in styles if each.weight]
    if not parts:
        raise BadRequest("every style is at 0 %", hint="give at least one some strength")
    out = folder / MADE
    licences = [at.studio.library.version(each.ref).details.licence for each in styles if each.weight]
    job = at.studio.jobs.submit(
        kind="merge" if kind == "merged" else "blend",
        title=name,
        owner=at.user.name,
        commands=_commands(at, kind, parts, str(out), name=name, keep=keep, precision=precision, licences=licences),
        folder=folder,
    )
    at.studio.jobs.wake()
    return row_of(at, job)


def _part(at: At, style: Style) -> str:
    path = at.studio.library.path(style.ref)
    return f"{path}:{style.weight!r}" + (f"@{style.blocks}" if style.blocks else "")


def _commands(
    at: At,
    kind: str,
    parts: Sequence[str],
    out: str,
    *,
    name: str,
    keep: float,
    precision: str,
    licences: Sequence[str],
) -> list[list[str]]:
    if kind == "merged":
        adapters = [word for part in parts for word in ("--adapter", part)]
        return [["merge", "--base", path_of(at, ""), *adapters, "--out", out, "--precision", precision, "--json"]]
    how = ["--method", "svd", "--keep", repr(keep)] if kind == "compact" else []
    add = ["library", "add", out, f"--name={name}", f"--by={at.user.name}", "--home", str(at.studio.home), "--json"]
    said = " + ".join(dict.fromkeys(each for each in licences if each))
    add += [f"--licence={said}"] if said else []
    return [["blend", *parts, "--out", out, *how, "--json"], add]


@action(role="creator", writes=False)
def result(at: At, *, id: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]) -> dict[str, Any]:
    """Say what a freezing of yours came to: its error or loss in total and per layer, the style or file it made."""
    job = at.studio.jobs.get(id)
    if job.kind not in FREEZINGS or (job.owner != at.user.name and not allows(at.user, "admin")):
        raise NotFound("there is no such mix of yours", hint="freeze it again")
    made = job.results[0] if job.results else {}
    return {
        "job": row_of(at, job),
        "report": made.get("report", {}),
        "ref": job.results[1].get("ref", "") if len(job.results) > 1 else "",
        "file": at.studio.home / job.folder / MADE if made and job.kind == "merge" else None,
    }


@action(role="creator", writes=False)
def list_(at: At, *, limit: Annotated[int, Field(ge=1, le=100)] = 10) -> list[Frozen]:
    """List your frozen mixes that are still there, newest first."""
    mine = at.studio.jobs.list(owner=at.user.name)
    ended = [each for each in mine if each.kind in FREEZINGS and each.state == "done"]
    recipes = at.studio.store.rows(
        "select value from settings where user = ? and key like ?", (at.user.name, f"{RECIPES}%")
    )
    found = [*(_frozen(at, each.id) for each in ended[:limit]), *(_recipe(at, each["value"]) for each in recipes)]
    there = [each for each in found if each.ref or (each.file and each.file.is_file())]
    return sorted(there, key=lambda each: each.when, reverse=True)[:limit]


def _frozen(at: At, id: str) -> Frozen:
    job = at.studio.jobs.get(id)
    if job.kind == "merge":
        return Frozen(name=job.title, kind="merged", when=job.ended, file=at.studio.home / job.folder / MADE)
    return Frozen(name=job.title, kind="style", when=job.ended, ref=str(job.result.get("ref", "")))


def _recipe(at: At, kept: str) -> Frozen:
    said = json.loads(kept)
    return Frozen(name=said["name"], kind="recipe", when=said["when"], file=at.studio.home / said["file"])
