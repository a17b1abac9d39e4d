"""Where adapters come from: what a run says in its folder, and a blend in its file."""

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path

from lora_diffusion.errors import UsageError
from lora_diffusion.library.rows import require_hash
from lora_diffusion.library.store import require_text
from lora_diffusion.library.values import Lineage

__all__ = ["check_lineage", "lineage_of_blend", "lineage_of_run"]

BLEND = "lora_diffusion.blend"
_MAX_PARENTS = 1000


def lineage_of_run(folder: Path) -> Lineage:
    """Read plan and pictures of a run from its folder.

    Raises UsageError where there is no run, InvalidManifest for a manifest that does not parse.
    """
    from datasets_tools.manifest import read_manifest

    folder = Path(folder)
    try:
        plan = (folder / "plan.toml").read_text("utf-8")
    except OSError:
        raise UsageError(f"{folder} holds no run (no plan.toml)", hint="name the run.out of a training") from None
    listed = folder / "manifest.jsonl"
    records = read_manifest(listed).records if listed.exists() else ()
    return Lineage(
        manifest=tuple((record.sha256, record.file) for record in records),
        plan=plan,
        run=str(folder),
        method="train",
    )


def lineage_of_blend(metadata: Mapping[str, str]) -> Lineage:
    """Return what a blend says it was made of; nothing where it is no blend of this project."""
    try:
        recipe = json.loads(metadata.get(BLEND, ""))
        parents = tuple((str(part["fingerprint"]), float(part["weight"])) for part in recipe["parts"])
        return Lineage(parents=parents, method=str(recipe["method"]))
    except (ValueError, KeyError, TypeError):  # other programs may write anything there
        return Lineage()


def check_lineage(lineage: Lineage) -> None:
    """Raise UsageError for hashes that are none, weights that are no numbers, or a plan that is no TOML."""
    for sha256, file in lineage.manifest:
        require_hash(sha256)
        require_text("name of a training picture", file, 4096)
    for ref, weight in lineage.parents:
        require_text("reference of a parent", ref, 200)
        if not math.isfinite(weight):
            raise UsageError(f"the weight of {ref} is {weight}", hint="give a number such as 0.8")
    if len(lineage.parents) > _MAX_PARENTS:
        raise UsageError(f"{len(lineage.parents)} parents are more than {_MAX_PARENTS}", hint="blend fewer at a time")
    for what in (lineage.run, lineage.method):
        require_text("lineage", what, 4096)
    try:
        tomllib.loads(require_text("plan", lineage.plan, 1_000_000))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the plan of the lineage is no TOML: {error}", hint="give the plan.toml of the run") from None
