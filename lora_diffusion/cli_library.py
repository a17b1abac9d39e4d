"""`lora-diffusion library`: adapters with versions, stages, samples and origin."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_diffusion import cli_audit, cli_pictures
from lora_diffusion.cli_home import By, Home, Reason, Ref, change, line_of, opened, person, utc_now
from lora_diffusion.console import Json, answer
from lora_diffusion.errors import UsageError

__all__ = ["library"]

library = typer.Typer(
    help="Keep adapters with versions, stages, samples and origin. REF is NAME, NAME@NUMBER or NAME@approved.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Stage = Annotated[str, typer.Argument(help="draft, in_review, approved or retired.")]
Weight = Annotated[float | None, typer.Option("--weight", help="Weight to begin with.")]

_DETAILS: Mapping[str, Any] = {
    "trigger": Annotated[
        str | None, typer.Option("--trigger", help="Word that calls the style; left out: the file's.")
    ],
    "weight": Weight,
    "weights": Annotated[tuple[float, float] | None, typer.Option("--weights", help="Weights that work: low high.")],
    "brand": Annotated[str | None, typer.Option("--brand")],
    "owner": Annotated[str | None, typer.Option("--owner")],
    "tag": Annotated[list[str] | None, typer.Option("--tag", help="May be given again.")],
    "licence": Annotated[str | None, typer.Option("--licence")],
    "expires": Annotated[str | None, typer.Option("--expires", help="Last day of the licence, YYYY-MM-DD.")],
    "notes": Annotated[str | None, typer.Option("--notes")],
    "card": Annotated[str | None, typer.Option("--card", help="Text for those who receive it.")],
    "preset": Annotated[
        list[str] | None, typer.Option("--preset", help="NAME=WEIGHT@BLOCK=WEIGHT; may be given again.")
    ],
}
"""Options that say something of a version."""


def _saying(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb these options in place of its `said`, which is the fields of Details that were given."""
    own = inspect.signature(verb)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _DETAILS.items()
    ]

    @wraps(verb)
    def with_options(**given: Any) -> None:
        said = _said(**{name: given.pop(name) for name in _DETAILS})
        verb(**given, said=said)

    parameters = [each for name, each in own.parameters.items() if name != "said"]
    with_options.__signature__ = own.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    return with_options


@library.command()
@_saying
def add(
    file: Annotated[Path, typer.Argument(help="Adapter, a .safetensors file.")],
    name: Annotated[str, typer.Option("--name", help="Left out: the name of the file.")] = "",
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run that made it: pictures, plan, last previews.")
    ] = None,
    parent: Annotated[
        list[str] | None, typer.Option("--parent", help="REF:WEIGHT of what it was made of; blends say it themselves.")
    ] = None,
    sample: Annotated[list[Path] | None, typer.Option("--sample", help="Picture that shows it.")] = None,
    by: By = "",
    home: Home = None,
    as_json: Json = False,
    *,
    said: dict[str, Any],
) -> None:
    """Add a file as the next version of a name. The same file again gives the version that is there."""
    from dataclasses import replace

    from lora_diffusion.library import Details, Lineage, NewSample, lineage_of_run, rights_of_run, samples_of_run
    from lora_diffusion.parts import parse_part

    if run:
        said = {**rights_of_run(run), **said}
    lineage = lineage_of_run(run) if run else Lineage()
    parents = [parse_part(each) for each in parent or []]
    if parents:
        lineage = replace(lineage, parents=tuple((each.source, each.weight) for each in parents))
    samples = [NewSample(path=each) for each in sample or []] or (samples_of_run(run) if run else ())
    with opened(home) as found:
        version = found.add(
            file,
            name=name or file.name.removesuffix(".safetensors"),
            by=person(by),
            when=utc_now(),
            details=Details(**said),
            lineage=lineage,
            samples=samples,
        )
    answer(version.to_dict(), as_json, f"{version.ref} ({version.stage})")


@library.command("list")
def show_all(
    text: Annotated[str, typer.Argument(help="Words of name, trigger, tags, notes or licence.")] = "",
    stage: Annotated[str, typer.Option("--stage", help="draft, in_review, approved or retired.")] = "",
    family: Annotated[str, typer.Option("--family")] = "",
    tag: Annotated[str, typer.Option("--tag")] = "",
    name: Annotated[str, typer.Option("--name")] = "",
    every: Annotated[bool, typer.Option("--every", help="Also versions that are not current.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Print what the library has."""
    with opened(home) as found:
        rows = found.versions(text=text, stage=stage, family=family, tag=tag, name=name, every=every)
    answer({"versions": [each.to_dict() for each in rows]}, as_json, "\n".join(map(line_of, rows)) or "nothing found")


@library.command()
def show(ref: Ref, home: Home = None, as_json: Json = False) -> None:
    """Print everything about a version: facts, what is said of it, origin, samples, comments."""
    with opened(home) as found:
        version = found.version(ref)
        lineage, samples, comments = found.lineage(ref), found.samples(ref), found.comments(ref)
    every = {
        **version.to_dict(),
        "warning": version.warning,
        "lineage": lineage.to_dict(),
        "samples": [each.to_dict() for each in samples],
        "comments": [each.to_dict() for each in comments],
    }
    details = [
        f"{key:12} {value}" for key, value in version.details.to_dict().items() if value not in ("", [], {}, None)
    ]
    lines = [
        line_of(version),
        *([version.warning] if version.warning else []),
        f"{'sha256':12} {version.sha256}",
        f"{'added':12} {version.at} by {version.by}",
        f"{'ranks':12} {', '.join(map(str, version.facts.ranks))}",
        *details,
        f"{'pictures':12} {version.images}",
        *(f"{'made of':12} {parent}:{weight:g}" for parent, weight in lineage.parents),
        *(f"{'sample':12} {each.path} {each.prompt} (seed {each.seed}, weight {each.weight})" for each in samples),
        *(f"{'comment':12} {each.at} {each.by}: {each.text}" for each in comments),
    ]
    answer(every, as_json, "\n".join(lines))


@library.command()
@_saying
def describe(
    ref: Ref,
    thumbnail: Annotated[Path | None, typer.Option("--thumbnail", help="Picture that stands for it.")] = None,
    by: By = "",
    home: Home = None,
    as_json: Json = False,
    *,
    said: dict[str, Any],
) -> None:
    """Change what is said of a version; what is not given stays. Tags and presets are replaced as a whole."""
    changes = said | ({"thumbnail": thumbnail} if thumbnail else {})
    if not changes:
        raise UsageError("nothing is to be changed", hint="lora-diffusion library describe --help")
    change(home, by, as_json, lambda found, **who: found.describe(ref, **changes, **who))


@library.command()
def promote(ref: Ref, stage: Stage, reason: Reason = "", by: By = "", home: Home = None, as_json: Json = False) -> None:
    """Move a version to another stage; an approved one is from then on what its name means."""
    change(home, by, as_json, lambda found, **who: found.promote(ref, stage, reason=reason, **who))


@library.command()
def rollback(
    name: Annotated[str, typer.Argument()],
    number: Annotated[int, typer.Argument(min=1)],
    reason: Reason = "",
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a name mean an earlier approved version again."""
    change(home, by, as_json, lambda found, **who: found.rollback(name, number, reason=reason, **who))


@library.command()
def rename(name: str, new: str, reason: Reason = "", by: By = "", home: Home = None, as_json: Json = False) -> None:
    """Give all versions of a name another one."""
    change(home, by, as_json, lambda found, **who: found.rename(name, new, reason=reason, **who))


@library.command()
def sample(
    ref: Ref,
    picture: Annotated[Path, typer.Argument()],
    prompt: Annotated[str, typer.Option("--prompt", help="Left out: what stands in a picture drawn here.")] = "",
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    weight: Weight = None,
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Keep a picture that shows what a version does."""
    shown = {"prompt": prompt, "seed": seed, "weight": weight}
    change(
        home, by, as_json, lambda found, **who: found.add_sample(ref, picture, **shown, **who), lambda kept: kept.path
    )


@library.command()
def comment(ref: Ref, text: str, by: By = "", home: Home = None, as_json: Json = False) -> None:
    """Say something about a version."""
    change(
        home, by, as_json, lambda found, **who: found.comment(ref, text, **who), lambda said: f"{said.ref}: {said.text}"
    )


@library.command()
def pack(
    ref: Ref,
    out: Annotated[Path, typer.Argument(metavar="OUT.zip")],
    privacy: Annotated[str, typer.Option("--privacy", help="public, team or private.")] = "team",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write a version with card and samples as one zip for others."""
    with opened(home) as found:
        done = found.pack(ref, out, privacy=privacy, overwrite=overwrite)
    lines = [str(done.path), f"sha256 {done.sha256}", *(f"left out for privacy: {key}" for key in done.withheld)]
    answer(done.to_dict(), as_json, "\n".join(lines))


@library.command()
def unpack(
    package: Annotated[Path, typer.Argument(metavar="PACKAGE.zip")],
    name: Annotated[str, typer.Option("--name", help="Left out: the name in the package.")] = "",
    by: By = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check a package and add what it holds as a draft."""
    change(home, by, as_json, lambda found, **who: found.unpack(package, name=name, **who))


@library.command("path")
def show_path(ref: Ref, home: Home = None, as_json: Json = False) -> None:
    """Print where the file of a version lies. It must not be changed."""
    with opened(home) as found:
        version, path = found.version(ref), found.path(ref)
    answer({"path": str(path), "warning": version.warning}, as_json, str(path))


@library.command()
def seed(home: Home = None, as_json: Json = False) -> None:
    """Add the adapters that come with the package as approved."""
    with opened(home) as found:
        added = found.seed(when=utc_now())
    answer(
        {"versions": [each.to_dict() for each in added]}, as_json, "\n".join(map(line_of, added)) or "nothing to add"
    )


for _verb in (*cli_audit.VERBS, *cli_pictures.VERBS):
    library.command()(_verb)


def _said(
    weights: tuple[float, float] | None, tag: list[str] | None, preset: list[str] | None, **same: Any
) -> dict[str, Any]:
    """Return the fields of Details that were given."""
    low, high = weights or (None, None)
    given = {
        **same,
        "weight_low": low,
        "weight_high": high,
        "tags": tuple(tag) if tag else None,
        "presets": dict(map(_preset, preset)) if preset else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _preset(text: str) -> tuple[str, str]:
    name, equals, spec = text.partition("=")
    if not equals:
        raise UsageError(
            f"{text!r} is no preset", hint="write NAME=WEIGHT@BLOCK=WEIGHT, for example soft=0.5@unet.up=1"
        )
    return name, spec
