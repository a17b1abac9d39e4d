"""An adapter in memory, and its way from and to a file."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from torch import Tensor

from datasets_tools.storage import replacing, replacing_folder
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.families.names import component_of
from lora_diffusion.files.assembly import assemble, parts_of
from lora_diffusion.files.compare import require_same
from lora_diffusion.files.dialects import Dialect, dialects, recognise
from lora_diffusion.files.dialects import dialect as dialect_of
from lora_diffusion.files.evidence import family_of
from lora_diffusion.files.folder import CONFIG, CONFIG_KEY, WEIGHTS, Source, source_of, split
from lora_diffusion.files.hashes import HASHES
from lora_diffusion.files.metadata import TRIGGER, describe
from lora_diffusion.files.precision import balanced, cast_all, precision_of
from lora_diffusion.files.report import Report
from lora_diffusion.files.shapes import with_usual_dimensions
from lora_diffusion.files.writing import plan_of, write_safe

__all__ = ["SUFFIX", "Adapter", "from_source", "read_adapter", "write_adapter", "written_paths"]

SUFFIX = ".safetensors"
_log = logging.getLogger("lora_diffusion")


@dataclass(frozen=True, kw_only=True, eq=False)  # tensors do not compare to one truth; `fingerprint` does
class Adapter:
    """Small trained tensors for a family of base models.

    `modules` maps canonical module names to weights; `embeddings` are textual-inversion vectors by token; `dialect` is
    what it was read from and `repairs` what reading mended, one line each.
    """

    name: str
    family: str
    modules: Mapping[str, Weights]
    metadata: Mapping[str, str] = field(default_factory=dict)
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    dialect: str = ""
    repairs: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, alphas and fp32 tensors: the same for the same adapter in any dialect."""
        result = hashlib.sha256()
        for name, weights in sorted(self.modules.items()):
            result.update(f"{name}\0{weights.method}\0{float(weights.alpha)!r}\0".encode())
            others = [weights.tensors()[role] for role in sorted(weights.tensors().keys() - {"down", "up"})]
            for tensor in (weights.down, weights.up, *others):
                flat = tensor.detach().cpu().float().contiguous()
                result.update(repr(tuple(flat.shape[:2])).encode() + flat.numpy().tobytes())
        return result.hexdigest()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks, ascending."""
        return tuple(sorted({weights.rank for weights in self.modules.values()}))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The different alphas, ascending."""
        return tuple(sorted({weights.alpha for weights in self.modules.values()}))

    @property
    def components(self) -> Mapping[str, int]:
        """Modules per component."""
        names = sorted(component_of(module) for module in self.modules)
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @property
    def trigger(self) -> str:
        """The word that calls the style, or nothing."""
        return self.metadata.get(TRIGGER, "")


def read_adapter(path: Path | str, *, name: str | None = None) -> Adapter:
    """Read an adapter from a file, or from a folder as PEFT and diffusers write them.

    Reading is strict: every tensor finds its place, or the first that does not is named. Raises UsageError where there
    is nothing, UnknownDialect for content of another kind, CorruptFile for what is damaged, incomplete or not finite.
    """
    return from_source(source_of(Path(path)), name=name)


def from_source(source: Source, *, name: str | None = None) -> Adapter:
    """Read an adapter from files whose headers are known."""
    found = recognise(source.keys, source.metadata, source=source.path.name)
    source.verify()
    parts = parts_of(source.tensors(), source.metadata)
    modules = assemble(parts, source=source.path.name)
    family, _ = family_of(modules, source.metadata, source.keys)
    modules, reshaped = with_usual_dimensions(modules, family)
    return Adapter(
        name=name or source.name,
        family=family,
        modules=modules,
        metadata=_without_structure(source.metadata, found),
        embeddings=parts.embeddings,
        dialect=found.name,
        repairs=parts.repairs + reshaped,
    )


def _without_structure(metadata: Mapping[str, str], found: Dialect) -> dict[str, str]:
    patterns = ("format", *HASHES, *found.structural)
    return {key: value for key, value in metadata.items() if not any(fnmatchcase(key, each) for each in patterns)}


def write_adapter(
    adapter: Adapter,
    path: Path | str,
    *,
    dialect: str = "kohya",
    dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Report:
    """Write an adapter in a dialect, read it back, and put it in place only if each delta is what was meant.

    `dtype` is "fp16", "bf16", "fp32", or None to keep each tensor's own. `metadata` is added to the adapter's. A path
    without the suffix .safetensors is a new folder (PEFT only). Embeddings of the adapter go into a file beside it,
    `<name>.embeddings.safetensors`, because programs refuse them inside. What is there already is replaced:
    `written_paths` names it all beforehand. Returns the error that the precision brought.
    Raises UsageError for a request that cannot be met, VerificationFailed for a loss beyond rounding; then nothing is
    written.
    """
    path, precision = Path(path), None if dtype is None else precision_of(dtype)
    _require_writable(adapter, path, dialect)
    _warn_of_readers(adapter, dialect)
    adapter = replace(adapter, modules={name: _at_rest(weights) for name, weights in adapter.modules.items()})
    tensors, structure = dialect_of(dialect).write(balanced(adapter.modules, precision), family=adapter.family)
    tensors = cast_all(tensors, precision)
    known = {**adapter.metadata, **(metadata or {})}
    said = describe(adapter.modules, name=adapter.name, family=adapter.family, metadata=known)
    with (replacing if path.suffix == SUFFIX else replacing_folder)(path) as temporary:
        _write(temporary, tensors, {**said, **structure})
        report = require_same(read_adapter(temporary).modules, adapter.modules, precision)
    if adapter.embeddings:
        _write_embeddings(adapter, path)
    return report


def written_paths(adapter: Adapter, path: Path | str) -> tuple[Path, ...]:
    """Return every path that `write_adapter` creates or replaces, so that a caller can refuse before it does."""
    path = Path(path)
    return (path, _beside(path)) if adapter.embeddings else (path,)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.embeddings{SUFFIX}")


def _at_rest(weights: Weights) -> Weights:
    """Training hands over parameters on its device."""
    down, up = weights.down.detach().cpu(), weights.up.detach().cpu()
    extra = {role: each.detach().cpu() if isinstance(each, Tensor) else each for role, each in weights.extra.items()}
    return replace(weights, down=down, up=up, extra=extra)


def _require_writable(adapter: Adapter, path: Path, dialect: str) -> None:
    writable = [name for name, each in dialects().items() if each.writable]
    if dialect not in writable:
        raise UsageError(f"the dialect {dialect!r} cannot be written", hint=f"write one of {', '.join(writable)}")
    if path.suffix != SUFFIX and dialect != "peft":
        raise UsageError(f"{path} has no suffix {SUFFIX}", hint=f"name the file {path.name}{SUFFIX}")
    others = {weights.method for weights in adapter.modules.values()} - set(dialect_of(dialect).methods)
    if others:
        raise UsageError(
            f"the dialect {dialect} has no names for the method {', '.join(sorted(others))}",
            hint="write the kohya dialect, or convert the adapter to a plain LoRA first",
        )
    biased = next((name for name, weights in adapter.modules.items() if "bias" in weights.extra), "")
    if biased and "full" not in dialect_of(dialect).methods:
        raise UsageError(
            f"the dialect {dialect} has no name for a change of a bias, as {biased} has one",
            hint="write the kohya dialect",
        )
    if not adapter.modules:
        raise UsageError(f"adapter {adapter.name} has no modules, so there is nothing to write")


def _warn_of_readers(adapter: Adapter, dialect: str) -> None:
    """diffusers 0.42.1 tells the style of the keys of a text encoder by its attention, in kohya files by
    out_proj alone, and fails without."""
    leaves: dict[str, set[str]] = {}
    for name in adapter.modules:
        leaves.setdefault(component_of(name), set()).add(name.rpartition(".")[2])
    for component, found in sorted(leaves.items()):
        attention = found & {"q_proj", "k_proj", "v_proj", "out_proj"}
        if dialect == "diffusers" and component.startswith("text_encoder") and not attention:
            _log.warning(
                "%s has no attention: diffusers 0.42 does not read such a file of its own; use --dialect kohya",
                component,
            )
        if dialect == "kohya" and attention and "out_proj" not in found:
            _log.warning(
                "%s has no out_proj: diffusers 0.42 does not read such a kohya file; use --dialect diffusers", component
            )


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    if path.suffix == SUFFIX:
        write_safe(path, plan_of(tensors), tensors.__getitem__, metadata)
        return
    outside = {key: value for key, value in metadata.items() if key != CONFIG_KEY}
    for name, (own, config) in split(tensors, metadata).items():
        (path / name).mkdir(exist_ok=True)
        (path / name / CONFIG).write_text(config, "utf-8")
        write_safe(path / name / WEIGHTS, plan_of(own), own.__getitem__, outside)


def _write_embeddings(adapter: Adapter, path: Path) -> None:
    with replacing(_beside(path)) as temporary:
        write_safe(temporary, plan_of(adapter.embeddings), adapter.embeddings.__getitem__, {"format": "pt"})
