"""What an adapter file is, and what is wrong with it; a damaged file is described, not refused."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile
from lora_diffusion.families.names import component_of
from lora_diffusion.files.assembly import problem, weights_of
from lora_diffusion.files.dialects import Parts, recognise
from lora_diffusion.files.evidence import family_of, width_family
from lora_diffusion.files.folder import Source, source_of
from lora_diffusion.files.safe import HASH_KEY, PAYLOAD_KEY
from lora_diffusion.files.shapes import with_usual_dimensions

__all__ = ["Inspection", "inspect_adapter"]

_FP16_MAX = 65504.0


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A file in figures. `modules` and `targets` count per component and per kind of module; `scales` are alpha / rank;
    `verified` tells that our own hash was stored and holds; `anomalies` are reasons not to trust the file."""

    path: str
    dialect: str
    family: str
    evidence: str
    modules: Mapping[str, int] = field(default_factory=dict)
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    targets: Mapping[str, int] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    verified: bool = False
    repairs: tuple[str, ...] = ()
    anomalies: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def inspect_adapter(path: Path | str) -> Inspection:
    """Describe an adapter file or folder.

    Raises UsageError where there is nothing, and FileError for content that is no adapter at all; everything else that
    is wrong is an anomaly.
    """
    source = source_of(Path(path))
    found = recognise(source.keys, source.metadata)
    try:
        parts = found.read(source.tensors(), source.metadata)
    except CorruptFile as error:
        return Inspection(
            path=str(path),
            dialect=found.name,
            family="",
            evidence="",
            metadata=source.metadata,
            anomalies=(str(error),),
        )
    whole = {name: weights_of(pieces) for name, pieces in parts.pieces.items() if not _unusable(pieces)}
    family, evidence = family_of(whole, source.metadata)
    _, reshaped = with_usual_dimensions(whole, family)
    names = sorted(parts.pieces)
    return Inspection(
        path=str(path),
        dialect=found.name,
        family=family,
        evidence=evidence,
        modules=_count(component_of(name) for name in names),
        ranks=tuple(sorted({each.rank for each in whole.values()})),
        alphas=_finite(each.alpha for each in whole.values()),
        scales=_finite(each.scale for each in whole.values()),
        targets=_count(_kind(name) for name in names),
        embeddings=tuple(sorted(parts.embeddings)),
        metadata=source.metadata,
        verified=any(HASH_KEY in file.metadata for file in source.files.values()) and not _wrong_hashes(source),
        repairs=parts.repairs + reshaped,
        anomalies=tuple(_anomalies(source, parts, whole, family)),
    )


def _unusable(pieces: Mapping[str, torch.Tensor]) -> bool:
    """Values may be wrong and still be described; without both factors there is nothing to describe."""
    return bool(what := problem(pieces)) and "NaN" not in what


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    """JSON has no NaN; one that is there is an anomaly of its own."""
    return tuple(sorted({value for value in values if math.isfinite(value)}))


def _count(names: Iterable[str]) -> dict[str, int]:
    result: dict[str, int] = {}
    for name in names:
        result[name] = result.get(name, 0) + 1
    return dict(sorted(result.items()))


def _kind(module: str) -> str:
    """Return what a module is, without its place: attn1.to_q, ff.net.0.proj, self_attn.q_proj, resnets.conv1."""
    parts = module.split(".")
    for group in ("attn1", "attn2", "ff", "self_attn", "mlp"):
        if group in parts:
            return ".".join(parts[parts.index(group) :])
    words = [part for part in parts if not part.isdigit()]
    return ".".join(words[-2:])


def _anomalies(source: Source, parts: Parts, whole: Mapping[str, Weights], family: str) -> Iterator[str]:
    yield from _wrong_hashes(source)
    yield from (f"no place for tensor {key}" for key in parts.unplaced)
    yield from (f"{name} {what}" for name, pieces in parts.pieces.items() if (what := problem(pieces)))
    for token, vector in parts.embeddings.items():
        if not torch.isfinite(vector).all():
            yield f"embedding {token} has NaN or infinite values"
    yield from _silent(whole)
    for name, weights in whole.items():
        yield from _suspicious(name, weights)
    width = width_family(whole)
    if width is not None and width[0] != family:
        yield f"the metadata says {family}, but {width[1]} belongs to {width[0]}"


def _wrong_hashes(source: Source) -> list[str]:
    return [
        f"{file.path.name}: {key} does not match: the tensors were damaged or changed after writing"
        for file in source.files.values()
        for key in (HASH_KEY, PAYLOAD_KEY)
        if key in file.metadata and file.hash_of(key) != file.metadata[key].removeprefix("0x")
    ]


def _silent(whole: Mapping[str, Weights]) -> Iterator[str]:
    zero = [name for name, weights in whole.items() if not weights.up.any() or not weights.down.any()]
    if zero:
        yield f"{len(zero)} of {len(whole)} modules have a factor of zeros and no effect, the first is {zero[0]}"


def _suspicious(name: str, weights: Weights) -> Iterator[str]:
    if weights.alpha <= 0:
        yield f"{name} has alpha {weights.alpha:g}"
    elif weights.scale > 64:
        yield f"{name} has a scale of {weights.scale:g} (alpha {weights.alpha:g}, rank {weights.rank})"
    largest = max(float(each.float().abs().max()) for each in (weights.up, weights.down))
    if largest > _FP16_MAX and largest != float("inf"):
        yield f"{name} has values up to {largest:.3g}, which overflow in fp16"
