"""What an adapter file is, and what is wrong with it; a damaged file is described, not refused."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets_tools.finding import Finding, blocks
from lora_diffusion.errors import CorruptFile
from lora_diffusion.families.names import component_of
from lora_diffusion.files.anomalies import findings_of
from lora_diffusion.files.assembly import parts_of, problem, weights_of
from lora_diffusion.files.dialects import Parts, recognise
from lora_diffusion.files.evidence import family_of
from lora_diffusion.files.folder import Source, source_of
from lora_diffusion.files.hashes import OURS
from lora_diffusion.files.metadata import Row, table
from lora_diffusion.files.shapes import with_usual_dimensions
from lora_diffusion.files.spectrum import Layer, layer_of

__all__ = ["Inspection", "block_of", "inspect_adapter"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A file in figures.

    `modules` and `targets` count per component and per kind of module, `methods` per method; `scales` are alpha / rank.
    `layers` are the figures of each module, `blocks` the Frobenius norm of the change per block of the model, in the
    unit of the weights. `hashes` tells of every stored hash whether it holds; `verified` that ours was stored and all
    hold. `findings` are all that is worth knowing, `anomalies` the reasons among them not to trust the file.
    """

    path: str
    dialect: str
    family: str
    evidence: str
    modules: Mapping[str, int] = field(default_factory=dict)
    methods: Mapping[str, int] = field(default_factory=dict)
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    targets: Mapping[str, int] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)
    blocks: Mapping[str, float] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, bool] = field(default_factory=dict)
    verified: bool = False
    repairs: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def anomalies(self) -> tuple[str, ...]:
        return tuple(each.reason for each in self.findings if each.severity != "notes")

    @property
    def table(self) -> tuple[Row, ...]:
        """The metadata as rows to show: group, key, value."""
        return table(self.metadata)

    def to_dict(self) -> dict[str, Any]:
        values = {**asdict(self), "anomalies": self.anomalies}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def inspect_adapter(path: Path | str) -> Inspection:
    """Describe an adapter file or folder.

    Raises UsageError where there is nothing, and UnknownDialect for content that is no adapter at all; everything else
    that is wrong, a truncated file too, is a finding.
    """
    try:
        source = source_of(Path(path))
    except CorruptFile as error:
        return _unreadable(str(path), "", {}, "damaged", error)
    dialect = recognise(source.keys, source.metadata, source=source.path.name).name
    try:
        parts = parts_of(source.tensors(), source.metadata)
    except CorruptFile as error:
        return _unreadable(str(path), dialect, source.metadata, "configuration", error)
    return _described(str(path), dialect, source, parts)


def _unreadable(path: str, dialect: str, metadata: Mapping[str, str], code: str, error: CorruptFile) -> Inspection:
    finding = blocks(code, path, str(error), error.hint or "get the file again from where it came")
    return Inspection(path=path, dialect=dialect, family="", evidence="", metadata=metadata, findings=(finding,))


def _described(path: str, dialect: str, source: Source, parts: Parts) -> Inspection:
    problems = {name: problem(pieces) for name, pieces in parts.pieces.items()}
    # values may be wrong and still be described; without all factors there is nothing to describe
    usable = {name: weights_of(parts.pieces[name]) for name, what in problems.items() if not what or "NaN" in what}
    family, evidence = family_of(usable, source.metadata, source.keys)
    whole, reshaped = with_usual_dimensions(usable, family)
    names = sorted(parts.pieces)
    layers = {name: layer_of(weights) for name, weights in whole.items()}
    hashes = _hashes(source)
    return Inspection(
        path=path,
        dialect=dialect,
        family=family,
        evidence=evidence,
        modules=_count(component_of(name) for name in names),
        methods=_count(layer.method for layer in layers.values()),
        ranks=tuple(sorted({each.rank for each in whole.values()})),
        alphas=_finite(each.alpha for each in whole.values()),
        scales=_finite(each.scale for each in whole.values()),
        targets=_count(_kind(name) for name in names),
        layers={name: _without_nan(layer) for name, layer in layers.items()},
        blocks=_blocks(layers),
        embeddings=tuple(sorted(parts.embeddings)),
        metadata=source.metadata,
        hashes=hashes,
        verified=any(key in hashes for key in OURS) and all(hashes.values()),
        repairs=parts.repairs + reshaped,
        findings=findings_of(source, parts, problems, whole, family),
    )


def _hashes(source: Source) -> dict[str, bool]:
    """A folder of several files has each hash several times; it holds where all do."""
    result: dict[str, bool] = {}
    for file in source.files.values():
        wrong = file.wrong_hashes()
        for key in file.hash_keys:
            result[key] = result.get(key, True) and key not in wrong
    return result


def _without_nan(layer: Layer) -> Layer:
    """JSON has no NaN; one that is there is a finding of its own."""
    if math.isfinite(layer.alpha):
        return layer
    return Layer(**{**asdict(layer), "alpha": 0.0, "scale": 0.0})


def _blocks(layers: Mapping[str, Layer]) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, layer in layers.items():
        if layer.norm is not None and math.isfinite(layer.norm):
            block = block_of(name)
            squares[block] = squares.get(block, 0.0) + layer.norm**2
    return {block: math.sqrt(squares[block]) for block in sorted(squares, key=_place)}


def block_of(module: str) -> str:
    """Return the block of the model that a module is in: denoiser.down_blocks.1.attentions.0, text_encoder.layers.3."""
    component, *path = module.split(".")
    if "layers" in path:
        at = path.index("layers")
        return ".".join([component, *path[at : at + 2]])
    if path[0] == "mid_block":
        return ".".join([component, *path[:3]])
    return ".".join([component, *path[:4]]) if path[0].endswith("_blocks") else f"{component}.{path[0]}"


_ORDER = ("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block", "up_blocks", "conv_out")


def _place(block: str) -> tuple[str, int, list[tuple[int, str]]]:
    """Order blocks as the model runs through them: numbers by value."""
    component, first, *others = [*block.split("."), ""]
    rank = _ORDER.index(first) if first in _ORDER else len(_ORDER)
    return component, rank, [(int(part), "") if part.isdigit() else (-1, part) for part in (first, *others)]


def _finite(values: Iterable[float]) -> tuple[float, ...]:
    """JSON has no NaN; one that is there is a finding of its own."""
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
