"""A version as one zip for others: adapter, card, samples, and package.json with the hash of each.

The same version gives the same bytes: times in the zip are fixed. Needs torch, as every export does.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.storage import replacing, sha256_file
from lora_diffusion.errors import UsageError
from lora_diffusion.library.contents import CARD, CONTENTS, Contents, PackedFile, PackedSample
from lora_diffusion.library.values import Details, Lineage, Package, Sample, Version
from lora_diffusion.outputs import require_free

if TYPE_CHECKING:
    from lora_diffusion.library.library import Library

__all__ = ["pack"]

_TRIGGER = "modelspec.trigger_phrase"
_TEXTS = ("trigger", "licence", "card")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
_PACKED = (".html", ".json")  # all else is compressed already, or does not compress


def pack(library: "Library", ref: str, out: Path, *, privacy: str, overwrite: bool) -> Package:
    """Write the package of a version; as `Library.pack` says."""
    from lora_diffusion.files.privacy import PROFILES, require_public

    if out.suffix.lower() != ".zip":
        raise UsageError(f"{out} is no .zip", hint=f"name it {out.name}.zip")
    if privacy not in PROFILES:
        raise UsageError(f"unknown privacy profile {privacy!r}", hint=f"use one of {', '.join(PROFILES)}")
    require_free(out, overwrite)
    version = library.version(ref)
    if privacy == "public":
        require_public({"modelspec.title": version.name})
    if version.blocked and privacy != "private":
        raise UsageError(version.warning, hint="it is not for others; --privacy private still archives it")
    with tempfile.TemporaryDirectory() as folder:
        contents, withheld = _fill(library, version, Path(folder), privacy)
        names = [CONTENTS, *(each.path for each in contents.files)]
        with replacing(out) as aside:
            _zip(Path(folder), names, aside)
    return Package(path=out, sha256=sha256_file(out), files=tuple(names), withheld=withheld)


def _fill(library: "Library", version: Version, folder: Path, privacy: str) -> tuple[Contents, tuple[str, ...]]:
    file = folder / f"{version.name}.safetensors"
    withheld = _write_adapter(library.path(version.ref), file, version.name, privacy)
    details = version.details if privacy != "public" else _public(version.details)
    samples = [_copy_sample(each, folder, number, privacy) for number, each in enumerate(library.samples(version.ref))]
    _write_card(file, folder, version, details, samples, privacy)
    paths = [file.name, CARD, *(each.path for each in samples)]
    contents = Contents(
        name=version.name,
        number=version.number,
        family=version.family,
        privacy=privacy,
        details=details,
        lineage=_lineage(library, version, privacy),
        adapter=file.name,
        samples=tuple(samples),
        files=tuple(_packed(folder, path) for path in paths),
    )
    (folder / CONTENTS).write_text(contents.model_dump_json(indent=2) + "\n", "utf-8")
    return contents, withheld


def _packed(folder: Path, path: str) -> PackedFile:
    file = folder / path
    return PackedFile(path=path, sha256=sha256_file(file), bytes=file.stat().st_size)


def _write_adapter(source: Path, file: Path, name: str, privacy: str) -> tuple[str, ...]:
    """Copy the adapter as it is, or without what the profile withholds; return the keys of that."""
    from lora_diffusion.exporting import export
    from lora_diffusion.files.adapter import read_adapter
    from lora_diffusion.files.dialects import dialects
    from lora_diffusion.files.privacy import privacy_difference

    adapter = read_adapter(source, name=name)
    if not privacy_difference(adapter.metadata, privacy):
        shutil.copyfile(source, file)
        return ()
    known = dialects()[adapter.dialect].writable
    return export(adapter, file, dialect=adapter.dialect if known else "kohya", dtype=None, privacy=privacy).dropped


def _public(details: Details) -> Details:
    """Leave out what is said among colleagues. Raises UsageError for a text that gives someone away."""
    from lora_diffusion.files.privacy import find_private

    for field in _TEXTS:
        if found := find_private(getattr(details, field)):
            raise UsageError(
                f"the {field} may not stand in a public package: it holds {found}",
                hint="reword it with `lora-diffusion library describe`, or pack with --privacy team",
            )
    tags = tuple(tag for tag in details.tags if not find_private(tag))
    return replace(details, tags=tags, brand="", owner="", notes="", thumbnail="")


def _lineage(library: "Library", version: Version, privacy: str) -> Lineage:
    """Hashes let whoever unpacks heed withdrawals; names of pictures, folders and the plan are private."""
    found = library.lineage(version.ref)
    parents = tuple((_fingerprint(library, ref), weight) for ref, weight in found.parents)
    if privacy == "private":
        return replace(found, parents=parents)
    if privacy == "public":
        return Lineage(method=found.method)
    manifest = tuple((sha256, "") for sha256, _ in found.manifest)
    return Lineage(manifest=manifest, parents=parents, method=found.method)


def _fingerprint(library: "Library", ref: str) -> str:
    return library.version(ref).fingerprint if "@" in ref else ref


def _copy_sample(sample: Sample, folder: Path, number: int, privacy: str) -> PackedSample:
    """Pictures for strangers are written anew, without what stands inside the file."""
    from datasets_tools.image import load_image
    from lora_diffusion.files.privacy import find_private

    (folder / "samples").mkdir(exist_ok=True)
    path = f"samples/{number + 1}{'.png' if privacy == 'public' else sample.path.suffix}"
    prompt = sample.prompt
    if privacy == "public":
        load_image(sample.path).save(folder / path, format="PNG")
        prompt = "" if find_private(prompt) else prompt
    else:
        shutil.copyfile(sample.path, folder / path)
    return PackedSample(path=path, prompt=prompt, seed=sample.seed, weight=sample.weight)


def _write_card(
    file: Path, folder: Path, version: Version, details: Details, samples: Sequence[PackedSample], privacy: str
) -> None:
    from lora_diffusion.card import Card, write_card
    from lora_diffusion.files.adapter import read_adapter

    adapter = read_adapter(file, name=version.name)
    adapter = replace(adapter, metadata={**adapter.metadata, _TRIGGER: details.trigger})
    low, high = details.weight_low, details.weight_high
    card = Card(
        path=folder / CARD,
        weights=None if low is None or high is None else (low, high),
        licence=details.licence,
        description=details.card,
        samples=tuple(folder / each.path for each in samples),
    )
    write_card(
        card,
        adapter,
        file=file,
        sha256=sha256_file(file),
        dialect=adapter.dialect,
        precision="as found",
        privacy=privacy,
    )


def _zip(folder: Path, names: Sequence[str], out: Path) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(_PACKED) else zipfile.ZIP_STORED
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
