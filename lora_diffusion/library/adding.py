"""New versions and their samples."""

import hashlib
import json
import re
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from datasets_tools.storage import sha256_file
from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.library.ledger import Writing
from lora_diffusion.library.lineage import check_lineage, lineage_of_blend
from lora_diffusion.library.naming import key_of, require_name
from lora_diffusion.library.objects import Kept, Objects
from lora_diffusion.library.rows import VERSIONS, adapter_named, check_details, columns_of, find, version_of
from lora_diffusion.library.store import Store, require_text
from lora_diffusion.library.values import Details, Facts, Lineage, Stage, Version
from lora_diffusion.parts import require_finite

__all__ = ["NewSample", "add", "add_sample", "fingerprint_of", "keep_picture"]

SUFFIX = ".safetensors"
_TRIGGER, _LICENCE = "modelspec.trigger_phrase", "modelspec.license"
_PICTURES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class NewSample:
    """A picture to keep as a sample; what is left out is read from a picture that was drawn here."""

    path: Path
    prompt: str = ""
    seed: int | None = None
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Read:
    fingerprint: str
    family: str
    facts: Facts


def _read(path: Path) -> _Read:
    """Read an adapter in full, so that nothing damaged or foreign gets in. The one place that needs torch."""
    from lora_diffusion.files.adapter import read_adapter

    adapter = read_adapter(path)
    facts = Facts(
        dialect=adapter.dialect,
        methods=tuple(sorted({weights.method for weights in adapter.modules.values()})),
        ranks=adapter.ranks,
        alphas=adapter.alphas,
        components=dict(adapter.components),
        metadata=dict(adapter.metadata),
    )
    return _Read(fingerprint=adapter.fingerprint, family=adapter.family, facts=facts)


def add(
    store: Store,
    path: Path,
    *,
    name: str,
    by: str,
    when: str,
    details: Details,
    lineage: Lineage,
    samples: Sequence[NewSample],
    reason: str = "",
    stage: Stage = "draft",
) -> Version:
    """Read and keep the files first, then write all rows in one transaction; as `Library.add` says."""
    name = require_name(name)
    check_details(details)
    check_lineage(lineage)
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint="a folder becomes a file with `lora-diffusion export`")
    sha256 = sha256_file(path)
    read = _read(path)
    completed = [_known(each) for each in samples]
    for each in completed:
        _require_picture(each.path)
    with store.reading() as connection:
        for ref, _ in lineage.parents:
            fingerprint_of(connection, ref)
    kept = store.objects.keep(path, SUFFIX, sha256)
    pictures = [(each, keep_picture(store.objects, each.path)) for each in completed]
    with store.writing(by=by, when=when, reason=reason) as writing:
        adapter = _adapter(writing, name)
        number = _present(writing, adapter, sha256)
        if not number:
            number = _next(writing, adapter)
            _put_version(writing, adapter, number, kept, read, details, lineage, stage)
        for sample, picture in pictures:
            _put_sample(writing, adapter, number, sample, picture)
        writing.finish("add", f"{adapter}@{number}")
        found = writing.connection.execute(f"{VERSIONS} WHERE v.adapter = ? AND v.number = ?", (adapter, number))
        return version_of(found.fetchone())


def _adapter(writing: Writing, name: str) -> str:
    row = adapter_named(writing.connection, name)
    if row is not None:
        return str(row["id"])
    adapter = secrets.token_hex(16)
    writing.put("adapters", id=adapter, name=name, key=key_of(name), current=1)
    return adapter


def _present(writing: Writing, adapter: str, sha256: str) -> int:
    row = writing.connection.execute(
        "SELECT number FROM versions WHERE adapter = ? AND sha256 = ?", (adapter, sha256)
    ).fetchone()
    return int(row["number"]) if row else 0


def _next(writing: Writing, adapter: str) -> int:
    row = writing.connection.execute("SELECT max(number) FROM versions WHERE adapter = ?", (adapter,)).fetchone()
    return (row[0] or 0) + 1


def _put_version(
    writing: Writing,
    adapter: str,
    number: int,
    kept: Kept,
    read: _Read,
    details: Details,
    lineage: Lineage,
    stage: Stage,
) -> None:
    said = read.facts.metadata
    details = replace(
        details,
        trigger=details.trigger or said.get(_TRIGGER, ""),
        licence=details.licence or said.get(_LICENCE, ""),
    )
    blend = lineage_of_blend(said)
    if blend.parents and not lineage.parents:
        lineage = replace(lineage, parents=blend.parents, method=lineage.method or blend.method)
    writing.put("objects", **asdict(kept))
    writing.put(
        "versions",
        adapter=adapter,
        number=number,
        sha256=kept.sha256,
        fingerprint=read.fingerprint,
        family=read.family,
        stage=stage,
        blocked=_blocked(writing, lineage),
        at=writing.when,
        by=writing.by,
        facts=json.dumps(asdict(read.facts), ensure_ascii=False, sort_keys=True),
        **columns_of(details),
        method=lineage.method,
        run=lineage.run,
        plan=lineage.plan,
        manifest=_put_manifest(writing, lineage),
    )
    for place, (ref, weight) in enumerate(lineage.parents):
        fingerprint, called = fingerprint_of(writing.connection, ref)
        writing.put(
            "parents",
            adapter=adapter,
            number=number,
            place=place,
            fingerprint=fingerprint,
            name=called,
            weight=float(weight),
        )
    _point(writing, adapter, number)


def _point(writing: Writing, adapter: str, number: int) -> None:
    """The name means the newest version until one is approved."""
    approved = writing.connection.execute(
        "SELECT 1 FROM versions WHERE adapter = ? AND stage = 'approved'", (adapter,)
    ).fetchone()
    if not approved:
        writing.put("adapters", id=adapter, current=number)


def _put_manifest(writing: Writing, lineage: Lineage) -> str | None:
    """Versions of a name mostly share their pictures, so that the list is kept once, by content."""
    if not lineage.manifest:
        return None
    images = json.dumps([[sha256.lower(), file] for sha256, file in lineage.manifest], ensure_ascii=False)
    manifest = hashlib.sha256(images.encode("utf-8")).hexdigest()
    writing.put("manifests", id=manifest, count=len(lineage.manifest), images=images)
    return manifest


def _blocked(writing: Writing, lineage: Lineage) -> str:
    """Return why a version may not be approved: a picture of its own was withdrawn, or one of its parents'."""
    hashes = {sha256.lower() for sha256, _ in lineage.manifest}
    withdrawn = writing.connection.execute(
        "SELECT sha256, reason FROM withdrawals WHERE lifted = '' ORDER BY rowid"
    ).fetchall()
    for row in withdrawn:
        if row["sha256"] in hashes:
            return str(row["reason"])
    for ref, _ in lineage.parents:
        fingerprint, _name = fingerprint_of(writing.connection, ref)
        parent = writing.connection.execute(
            "SELECT blocked FROM versions WHERE fingerprint = ? AND blocked <> ''", (fingerprint,)
        ).fetchone()
        if parent:
            return str(parent["blocked"])
    return ""


def fingerprint_of(connection: sqlite3.Connection, ref: str) -> tuple[str, str]:
    """Return the fingerprint that a reference means, and what it was called; a fingerprint means itself."""
    if _FINGERPRINT.fullmatch(ref.lower()):
        return ref.lower(), ""
    row = find(connection, ref)
    return row["fingerprint"], f"{row['name']}@{row['number']}"


def keep_picture(objects: Objects, path: Path) -> Kept:
    """Keep a picture that a browser shows. Raises UnreadableImage for what is none, UsageError for another format."""
    sha256, suffix = _require_picture(path)
    return objects.keep(path, suffix, sha256)


def _require_picture(path: Path) -> tuple[str, str]:
    from datasets_tools.image import load_image
    from datasets_tools.sniff import kind_of

    if not path.is_file():
        raise UsageError(f"there is no picture at {path}", hint="name a picture that exists")
    sha256 = sha256_file(path)
    load_image(path)
    with path.open("rb") as file:
        kind = kind_of(file.read(64))
    if kind.format not in _PICTURES:
        said = f"{path} is {kind.name}, which not every browser shows"
        raise UsageError(said, hint=f"save it as one of {', '.join(_PICTURES)}")
    return sha256, _PICTURES[kind.format]


def _known(sample: NewSample) -> NewSample:
    """Complete a sample by the settings inside of a picture that was drawn here."""
    from lora_diffusion.generation.picture import read_settings

    require_text("prompt", sample.prompt)
    if sample.seed is not None and not -(2**63) <= sample.seed < 2**63:
        raise UsageError(f"the seed {sample.seed} has more than 64 bits", hint="give the seed of the picture")
    if sample.weight is not None:
        require_finite("a sample", sample.weight)
    try:
        settings = read_settings(sample.path)
    except CorruptFile:
        return sample
    weights = list(settings.adapters.values())
    alone = float(weights[0]) if len(weights) == 1 else None
    return replace(
        sample,
        prompt=sample.prompt or settings.prompt,
        seed=settings.seed if sample.seed is None else sample.seed,
        weight=alone if sample.weight is None else sample.weight,
    )


def _put_sample(writing: Writing, adapter: str, number: int, sample: NewSample, kept: Kept) -> None:
    last = writing.connection.execute(
        "SELECT max(place) FROM samples WHERE adapter = ? AND number = ?", (adapter, number)
    ).fetchone()[0]
    present = writing.connection.execute(
        "SELECT place FROM samples WHERE adapter = ? AND number = ? AND sha256 = ?", (adapter, number, kept.sha256)
    ).fetchone()
    writing.put("objects", **asdict(kept))
    writing.put(
        "samples",
        adapter=adapter,
        number=number,
        sha256=kept.sha256,
        place=present["place"] if present else (0 if last is None else last + 1),
        prompt=sample.prompt,
        seed=sample.seed,
        weight=sample.weight,
    )


def add_sample(store: Store, ref: str, sample: NewSample, *, by: str, when: str) -> str:
    """Keep a sample and return its hash; as `Library.add_sample` says."""
    sample = _known(sample)
    with store.reading() as connection:
        find(connection, ref)
    kept = keep_picture(store.objects, sample.path)
    with store.writing(by=by, when=when) as writing:
        row = find(writing.connection, ref)
        _put_sample(writing, row["adapter"], row["number"], sample, kept)
        writing.finish("add sample", f"{row['adapter']}@{row['number']}")
    return kept.sha256
