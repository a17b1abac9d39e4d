"""The verbs on adapter files: blend, merge, export, inspect, conflict, extract, resize."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_diffusion.cli_home import locate_adapter, read_named
from lora_diffusion.console import Json, answer, say
from lora_diffusion.errors import UsageError
from lora_diffusion.outputs import require_free, require_other

if TYPE_CHECKING:
    from lora_diffusion.card import Card
    from lora_diffusion.files.adapter import Adapter
    from lora_diffusion.files.inspect import Inspection
    from lora_diffusion.parts import PartSpec

__all__ = ["VERBS", "Adapters", "Base", "Out", "Overwrite", "read_parts"]

Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
Base = Annotated[str, typer.Option("--base", help="Base model: folder, .safetensors file, hub id, or demo.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="FILE[:WEIGHT][@BLOCK=WEIGHT or @PRESET ...]; may be given again."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Rank = Annotated[int | None, typer.Option("--rank", help="Rank of the result.", min=1)]
Keep = Annotated[
    float | None, typer.Option("--keep", help="Smallest rank of each layer that keeps this share of its energy.")
]
Dialect = Annotated[str, typer.Option("--dialect", help="kohya, diffusers or peft.")]
BaseOfDecomposed = Annotated[
    str | None, typer.Option("--base", help="Base model; needed for adapters with weight decomposition (DoRA).")
]


def blend(
    adapters: Annotated[list[str], typer.Argument(help="Two or more adapters.", metavar="A:0.7 C:-0.3@unet.up=0")],
    out: Out,
    method: Annotated[
        str, typer.Option("--method", help="concat is exact; svd cuts to --rank or --keep; ties, dare, magnitude.")
    ] = "",
    rank: Rank = None,
    keep: Keep = None,
    density: Annotated[
        float | None, typer.Option("--density", help="Share of each delta that ties, dare and magnitude keep.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="What dare draws with; it is written into the file.")
    ] = None,
    orthogonal_to: Annotated[
        Path | None, typer.Option("--orthogonal-to", help="Keep this adapter's effect untouched by the others.")
    ] = None,
    base: BaseOfDecomposed = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write one adapter that equals the weighted sum of several, and how exactly it does."""
    from lora_diffusion.exporting import blend_to_file
    from lora_diffusion.families import locate

    require_other(out, [*_sources(adapters), *([base] if base else [])])
    done = blend_to_file(
        read_parts(adapters),
        out,
        method=method or None,
        rank=rank,
        keep=keep,
        density=density,
        seed=seed,
        orthogonal_to=read_named(orthogonal_to) if orthogonal_to else None,
        base=locate(base) if base else None,
        overwrite=overwrite,
    )
    answer(_written(done), as_json, f"{done.path}\nrelative error {done.report.total:.2e}")


def merge(
    base: Base,
    out: Out,
    adapter: Adapters = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp16, bf16, fp32 or fp8; left out: as the base.")
    ] = None,
    residual: Annotated[
        Path | None, typer.Option("--residual", help="Also write an adapter that brings back what rounding took.")
    ] = None,
    residual_rank: Annotated[int | None, typer.Option("--residual-rank", help="Its highest rank.", min=1)] = None,
    configs: Annotated[
        str | None, typer.Option("--configs", help="Diffusers folder that lends configs to a single file.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fold adapters into a base model: one .safetensors checkpoint, or a diffusers folder."""
    from lora_diffusion.families import locate
    from lora_diffusion.merging import merge as merge_files

    for path in (out, residual):
        if path is not None:
            require_other(path, _sources(adapter or []))
    done = merge_files(
        locate(base),
        read_parts(adapter),
        out,
        precision=precision,
        residual=residual,
        residual_rank=residual_rank,
        configs=locate(configs) if configs else None,
        overwrite=overwrite,
    )
    text = f"{done.path}\nshare of the style lost by rounding {done.report.total:.2e}"
    if done.residual:
        text += f"\nresidual {done.residual}"
    answer({**_written(done), "residual": str(done.residual) if done.residual else None}, as_json, text)


def export(
    source: Annotated[Path, typer.Argument(metavar="SRC")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors")],
    dialect: Dialect = "kohya",
    privacy: Annotated[str, typer.Option("--privacy", help="public, team or private.")] = "team",
    preview: Annotated[
        bool, typer.Option("--preview", help="Only show what the privacy profile would leave out.")
    ] = False,
    precision: Annotated[str, typer.Option("--precision", help="fp16, bf16 or fp32.")] = "fp16",
    card: Annotated[
        list[Path] | None, typer.Option("--card", help="Also write a model card, .md or .html; may be given again.")
    ] = None,
    sample: Annotated[list[Path] | None, typer.Option("--sample", help="Picture for the card.")] = None,
    weights: Annotated[
        tuple[float, float] | None, typer.Option("--weights", help="Recommended weights for the card: low high.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence for the card; left out: the file's.")] = "",
    name: Annotated[
        str, typer.Option("--name", help="What the file calls the adapter; left out: as it was called.")
    ] = "",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Convert an adapter to another dialect, read it back and compare."""
    from lora_diffusion.exporting import export as export_file
    from lora_diffusion.files.adapter import read_adapter

    source, ref = locate_adapter(source)
    if preview:
        _show_withheld(source, privacy, as_json)
        return
    for path in (out, *(card or [])):
        require_other(path, [source, *(sample or [])])
    cards = _cards(card, sample, weights, licence)
    adapter = read_adapter(source, name=name or ref.partition("@")[0] or None)
    if name:
        adapter = replace(adapter, metadata={**adapter.metadata, **dict.fromkeys(_TITLES, name)})
    done = export_file(
        adapter, out, dialect=dialect, dtype=precision, privacy=privacy, cards=cards, overwrite=overwrite
    )
    found = {**_written(done), "cards": [str(path) for path in done.cards], "withheld": list(done.dropped)}
    answer(found, as_json, "\n".join([str(done.path), f"sha256 {done.sha256}", *map(str, done.cards)]))


def inspect(
    file: Annotated[Path, typer.Argument()],
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the norms per block as a PNG.")] = None,
    fix: Annotated[Path | None, typer.Option("--fix", help="Write a mended file; the original stays.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what an adapter file is, and what is wrong with it. Exit 1 where something is."""
    from lora_diffusion.files.inspect import inspect_adapter

    file, _ = locate_adapter(file)
    inspection = inspect_adapter(file)
    found, text = inspection.to_dict(), _inspected(inspection)
    if plot:
        require_free(plot, overwrite, inputs=[file, *([fix] if fix else [])])
        from lora_diffusion.files.plot import plot_norms

        found["plot"] = str(plot_norms(inspection, plot))
    if fix:
        from lora_diffusion.files.fix import fix_adapter

        fixed = fix_adapter(file, fix, overwrite=overwrite)
        found["fixed"] = {"path": str(fixed.path), "mended": list(fixed.mended)}
        text += "\n" + "\n".join([f"mended: {line}" for line in fixed.mended] or ["nothing had to be mended"])
        text += f"\nwritten: {fixed.path}"
    answer(found, as_json, text)
    if inspection.anomalies:
        raise typer.Exit(1)


def conflict(
    first: Annotated[Path, typer.Argument(metavar="A")],
    second: Annotated[Path, typer.Argument(metavar="C")],
    base: BaseOfDecomposed = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the comparison as a PNG.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say how far two adapters get in each other's way, per block."""
    from lora_diffusion.conflicts import conflict as compare
    from lora_diffusion.conflicts import plot_conflict
    from lora_diffusion.families import locate

    place = locate(base) if base else None
    if plot:
        require_free(plot, overwrite, inputs=[first, second, *([place] if place else [])])
    report = compare(read_named(first), read_named(second), base=place)
    found: dict[str, Any] = report.to_dict()
    if plot:
        found["plot"] = str(plot_conflict(report, plot))
    lines = ["block             modules  cosine  overlap  by chance  verdict"]
    lines += [
        f"{each.block:16} {each.modules:8}  {each.cosine:6.2f}  {each.overlap:7.0%}  {each.chance:9.0%}  {each.verdict}"
        for each in (*report.blocks, report.whole)
    ]
    answer(found, as_json, "\n".join(lines))


def extract(
    tuned: Annotated[str, typer.Argument(help="Fine-tuned checkpoint.", metavar="TUNED")],
    base: Base,
    out: Out,
    rank: Rank = None,
    keep: Keep = None,
    dialect: Dialect = "kohya",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an adapter of what a fine-tuned checkpoint has that its base model lacks."""
    from lora_diffusion.exporting import export as export_file
    from lora_diffusion.extracting import extract as take
    from lora_diffusion.families import locate
    from lora_diffusion.progress import Progress

    require_free(out, overwrite, inputs=[locate(tuned), locate(base)])
    with Progress("extract") as progress:
        done = take(
            locate(tuned),
            locate(base),
            rank=rank,
            keep=keep,
            name=out.stem,
            on_progress=lambda at, total: progress.show("extract", at, total),
        )
    written = export_file(done.adapter, out, dialect=dialect, dtype="fp32", overwrite=overwrite)
    found = {**_written(written), "report": done.report.to_dict(), "left_share": done.left_share}
    found["left_out"] = dict(done.left_out)
    text = f"{out}\nleft out by the rank {done.report.total:.2e}, by what no LoRA carries {done.left_share:.2e}"
    answer(found, as_json, text)


def resize(
    source: Annotated[Path, typer.Argument(metavar="SRC")],
    out: Out,
    rank: Rank = None,
    keep: Keep = None,
    energy: Annotated[
        float | None, typer.Option("--energy", help="Share of the whole adapter's energy to keep, in fewest numbers.")
    ] = None,
    base: BaseOfDecomposed = None,
    dialect: Dialect = "kohya",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make an adapter smaller, and say what that costs."""
    from lora_diffusion.exporting import export as export_file
    from lora_diffusion.families import locate
    from lora_diffusion.resizing import resize as shrink

    place = locate(base) if base else None
    require_free(out, overwrite, inputs=[source, *([place] if place else [])])
    done = shrink(read_named(source), rank=rank, keep=keep, energy=energy, base=place)
    written = export_file(done.adapter, out, dialect=dialect, dtype="fp32", privacy="private", overwrite=overwrite)
    found = {**_written(written), "report": done.report.to_dict(), "before": done.before, "after": done.after}
    answer(found, as_json, f"{out}\n{done.before:,} -> {done.after:,} numbers, relative error {done.report.total:.2e}")


_TITLES = ("modelspec.title", "ss_output_name")
"""Where a file says what it is called: by the model specification, and by the keys of sd-scripts."""

VERBS = (blend, merge, export, inspect, conflict, extract, resize)


def read_parts(specs: Sequence[str] | None) -> "list[tuple[Adapter, PartSpec]]":
    """Read the adapters of FILE[:WEIGHT][@...] words with their weights; a file may be a reference of the library."""
    from lora_diffusion.parts import parse_part

    parsed = [parse_part(spec) for spec in specs or []]
    return [(read_named(part.source), part) for part in parsed]


def _sources(specs: Sequence[str]) -> list[str]:
    from lora_diffusion.parts import parse_part

    return [str(locate_adapter(parse_part(spec).source)[0]) for spec in specs]


def _written(done: Any) -> dict[str, Any]:
    for repair in getattr(done, "repairs", ()):
        say(f"mended: {repair}")
    for key in getattr(done, "dropped", ()):
        say(f"left out for privacy: {key}")
    return {"path": str(done.path), "sha256": done.sha256, "report": done.report.to_dict()}


def _cards(
    paths: Sequence[Path] | None, samples: Sequence[Path] | None, weights: tuple[float, float] | None, licence: str
) -> "list[Card]":
    from lora_diffusion.card import Card

    if samples and not paths:
        raise UsageError("--sample belongs to a card", hint="name one, --card card.html")
    return [Card(path=path, weights=weights, licence=licence, samples=tuple(samples or ())) for path in paths or []]


def _show_withheld(source: Path, privacy: str, as_json: bool) -> None:
    from lora_diffusion.files.adapter import read_adapter
    from lora_diffusion.files.privacy import privacy_difference

    withheld = privacy_difference(read_adapter(source).metadata, privacy)
    lines = [f"{each.key}: {each.reason} ({each.value})" for each in withheld]
    found = {"privacy": privacy, "withheld": [asdict(each) for each in withheld]}
    answer(found, as_json, "\n".join(lines) or f"{privacy} leaves nothing out")


def _inspected(found: "Inspection") -> str:
    """Return what a person reads first; --json has every layer."""
    hashes = [f"{key} {'holds' if holds else 'DOES NOT HOLD'}" for key, holds in found.hashes.items()]
    lines = [
        f"dialect   {found.dialect}",
        f"family    {found.family} ({found.evidence})",
        f"modules   {_counted(found.modules)}",
        f"methods   {_counted(found.methods)}",
        f"targets   {_counted(found.targets)}",
        f"ranks     {_listed(found.ranks)}",
        f"alphas    {_listed(found.alphas)}",
        f"scales    {_listed(found.scales)}",
        f"hashes    {', '.join(hashes) or 'none: not verified'}",
    ]
    lines += [f"norm      {block:18} {norm:.4g}" for block, norm in found.blocks.items()]
    lines += [f"metadata  {row.group}: {row.key} = {row.value}" for row in found.table]
    lines += [f"mended    {line}" for line in found.repairs]
    lines += [f"{each.severity:9} {each.reason}. What to do: {each.remedy}" for each in found.findings]
    return "\n".join(lines)


def _counted(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers) or "none"
