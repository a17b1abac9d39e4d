"""Fold adapters into the weights of a base model: W + sum of w_i * delta_i, in fp32, cast once.

Rounding can lose half of a subtle style in bf16 (measured: 48 % of the weights do not move for a delta of 0.3 % of the
base), so the share that is lost is part of the result. Tensors are streamed: memory holds one of them at a time, and
24 MB on their way to the disk. What no adapter changes is never a tensor, only bytes that pass by.

Before the result takes its place it is read back: each byte is compared with what was given to be written, and the
numbers of each tensor that an adapter changes, read as any program would read that checkpoint, are those that were
computed.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from datasets_tools.storage import replacing, replacing_folder, require_space, sha256_file
from lora_diffusion.errors import BaseNotFound, UsageError
from lora_diffusion.families import family
from lora_diffusion.families.layout import Place
from lora_diffusion.families.tokenizer import padded_files
from lora_diffusion.files.adapter import SUFFIX, Adapter
from lora_diffusion.files.checkpoint import CONFIGS_KEY, EXTRA, TOKENIZER_KEY, Checkpoint, open_checkpoint
from lora_diffusion.files.hashes import HASHES
from lora_diffusion.files.precision import PRECISIONS
from lora_diffusion.files.readback import flushed_beside, require_numbers, verified_beside
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.files.writing import Content, Planned, Written, write_safe
from lora_diffusion.folding import Folding, folding
from lora_diffusion.outputs import require_free
from lora_diffusion.parts import Weight
from lora_diffusion.residual import Residual
from lora_diffusion.scaled import SCALE, metadata_of

__all__ = ["Merged", "merge"]

_COPIED = {".json", ".txt", ".model"}


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged checkpoint. `sha256` is that of the file, or over the files of a folder in the order of their names.

    `report` is the share of each delta, and of all, that rounding lost. `residual` is the adapter that brings it back
    where one was asked for and something was lost, `missing` the share that is lost even with it.
    """

    path: Path
    sha256: str
    report: Report
    residual: Path | None = None
    missing: Report | None = None


def merge(
    base: Path | str,
    adapters: Sequence[tuple[Adapter, Weight]],
    out: Path | str,
    *,
    precision: str | None = None,
    configs: Path | str | None = None,
    residual: Path | str | None = None,
    residual_rank: int | None = None,
    overwrite: bool = False,
) -> Merged:
    """Write a checkpoint of `base` with weighted adapters of any method folded in.

    `base` is a local diffusers folder or single file; a weight is a number or a PartSpec with weights per block. `out`
    with the suffix .safetensors becomes a single file in the original layout, anything else a new diffusers folder.
    `precision` is "fp16", "bf16", "fp32", "fp8" (scaled, a single file for ComfyUI: `lora_diffusion.scaled`), or None
    to keep each tensor's own; then tensors that no adapter touches stay bit-equal. The VAE stays as found. `configs` is
    a diffusers folder that lends configs and tokenizer where a single file without them becomes a folder; keys of such
    a file that belong to no component (an EMA copy) stay behind then. `residual` is where an adapter goes that holds
    what rounding took, of at most `residual_rank` or of the rank that makes merged + residual exact to 1e-6 of the
    delta; biases and norms cannot be part of it.

    Raises WrongFamily or TargetError for the first target that does not fit, UsageError also where something lies at
    `out` or `residual` and `overwrite` is not set, BaseNotFound; nothing is written then, nor when reading back finds a
    difference (VerificationFailed).
    """
    out, checkpoint = Path(out), open_checkpoint(Path(base))
    require_free(out, overwrite, inputs=[checkpoint.path])
    job = folding(checkpoint, adapters, precision)
    rest = _residual(job, residual, residual_rank, overwrite, out)
    if precision == "fp8" and out.suffix != SUFFIX:
        raise UsageError("diffusers reads no scaled fp8 from a folder", hint=f"name a single file, {out.name}{SUFFIX}")
    require_space(out.parent, sum(job.size(key) for key in checkpoint.tensors), f"the merged checkpoint {out.name}")
    write = _write_single_file if out.suffix == SUFFIX else _write_folder
    lender = None if configs is None else open_checkpoint(Path(configs))
    with write(job, out, lender) as sha256:
        if rest is not None:  # before the checkpoint takes its place: either both are there or neither
            rest.write(out.stem)
    return Merged(
        path=out,
        sha256=sha256,
        report=report_of(job.losses),
        residual=rest.path if rest is not None and rest.modules else None,
        missing=None if rest is None else rest.report,
    )


def _residual(job: Folding, path: Path | str | None, rank: int | None, overwrite: bool, out: Path) -> Residual | None:
    if path is None:
        return None
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} has no suffix {SUFFIX}", hint=f"name the file {path.name}{SUFFIX}")
    if rank is not None and rank < 1:
        raise UsageError(f"a residual of rank {rank} is not possible", hint="use 1 or more")
    if path.resolve() == out.resolve():
        raise UsageError(f"{path} is named for the checkpoint and its residual", hint="give each a name of its own")
    require_free(path, overwrite, inputs=[job.checkpoint.path])
    result = Residual(path=path, family=job.checkpoint.family, rank=rank)
    job.on_remainder = result.take
    return result


@contextmanager
def _write_single_file(job: Folding, out: Path, lender: Checkpoint | None) -> Iterator[str]:
    """Write and check a file and yield its SHA-256; it takes its place at the end of the block."""
    held = _held(job.checkpoint)
    plan = [
        Planned(name=name, dtype=job.dtype_of(keys[0]), shape=_shape(job, name, keys)) for name, keys in held.items()
    ]
    layers = {name.removesuffix(".weight"): keys[0] for name, keys in held.items() if job.is_scaled(keys[0])}
    # Scales lie before their weights in the file, so these sums are made twice.
    scales = {f"{name}.{SCALE}": key for name, key in layers.items()}
    plan += [Planned(name=name, dtype=torch.float32, shape=()) for name in scales]
    metadata = _metadata(job, lender) | (metadata_of(layers) if layers else {})
    with replacing(out) as temporary:
        with verified_beside(job.checkpoint):
            written = write_safe(
                temporary,
                plan,
                lambda name: job.scale(scales[name]) if name in scales else _content(job, name, held[name]),
                metadata,
                hashes=(),
            )
        with flushed_beside(temporary):
            require_numbers(temporary, job.checkpoint, job.digests)
        yield written.sha256


def _held(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Return the canonical keys that each tensor of the original layout holds: one, or query, key and value."""
    layout, held = checkpoint.layout, dict[str, list[str]]()
    for key in checkpoint.tensors:
        name = key.removeprefix(EXTRA) if key.startswith(EXTRA) else layout.original(key)
        if name is None:
            raise BaseNotFound(f"{key} has no place in the original layout", hint="merge into a diffusers folder")
        held.setdefault(name, []).append(key)
    return {name: keys if len(keys) == 1 else list(layout.keys(name)) for name, keys in held.items()}


def _shape(job: Folding, name: str, keys: Sequence[str]) -> tuple[int, ...]:
    shapes = [job.checkpoint.tensors[key].shape for key in keys]
    return shapes[0] if keys[0].startswith(EXTRA) else job.checkpoint.layout.joined_shape(name, shapes)


def _content(job: Folding, name: str, keys: Sequence[str]) -> Content:
    if _passes(job, keys, _place(job, keys)):
        return job.content(keys[0])
    tensors = [job.tensor(each) for each in keys]
    return tensors[0] if keys[0].startswith(EXTRA) else job.checkpoint.layout.joined(name, tensors)


def _place(job: Folding, keys: Sequence[str]) -> Place | None:
    return job.checkpoint.layout.place(keys[0])


def _passes(job: Folding, keys: Sequence[str], place: Place | None) -> bool:
    """Say whether what a file holds for canonical keys is bytes of the base in their order, cast at most."""
    return not any(job.changes(each) for each in keys) and _lie_alike(job.checkpoint, keys[0], place)


def _lie_alike(checkpoint: Checkpoint, key: str, place: Place | None) -> bool:
    """Say whether the bytes of a tensor, and of all that is stored in one with it, come in the order of the place."""
    found = checkpoint.tensors[key].place
    return found == place or not any(each and (each.turned or each.third is not None) for each in (found, place))


def _metadata(job: Folding, lender: Checkpoint | None) -> dict[str, str]:
    checkpoint = job.checkpoint
    source, kind = lender or checkpoint, family(checkpoint.family)
    configs = source.configs or kind.configs(source.path)
    velocity = configs["scheduler"].get("prediction_type") == "v_prediction"
    own = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": kind.architecture(configs),
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": checkpoint.path.stem,
        "modelspec.prediction_type": "v" if velocity else "epsilon",
        "modelspec.merged_from": ", ".join([checkpoint.path.stem, *(each.adapter.name for each in job.parts)]),
        "lora_diffusion.family": checkpoint.family,
        "lora_diffusion.merged": json.dumps([each.to_dict() for each in job.parts]),
    }
    if source.configs:
        own[CONFIGS_KEY] = json.dumps(source.configs, sort_keys=True)
    if source.tokenizer:
        own[TOKENIZER_KEY] = json.dumps(source.tokenizer, sort_keys=True)
    kept = {key: value for key, value in checkpoint.metadata.items() if key not in HASHES}
    return {**kept, **own}


@contextmanager
def _write_folder(job: Folding, out: Path, lender: Checkpoint | None) -> Iterator[str]:
    """Write and check a folder and yield the SHA-256 over its files; it takes its place at the end of the block."""
    source = lender or job.checkpoint
    _require_configs(source)
    with replacing_folder(out) as temporary:
        if source.folder is not None:
            _copy_texts(source.folder, temporary, family(source.family).folders.values())
        else:
            _write_texts(source, temporary)
        known = {}
        with verified_beside(job.checkpoint):
            for component, name in family(job.checkpoint.family).folders.items():
                path = temporary / name / f"{_stem(component)}{SUFFIX}"
                known[path] = _write_component(job, _stored(job, component), path).sha256
                if component.startswith("text_encoder") and job.precision is not None:
                    _say_dtype(temporary / name / "config.json", PRECISIONS[job.precision])
        require_numbers(temporary, job.checkpoint, job.digests)
        yield _sha256(temporary, known)


def _stem(component: str) -> str:
    return "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"


def _config_names(source: Checkpoint) -> tuple[str, ...]:
    return (*family(source.family).folders.values(), "scheduler")


def _require_configs(source: Checkpoint) -> None:
    missing = [name for name in _config_names(source) if name not in source.configs]
    if missing or (source.folder is None and not source.tokenizer):
        raise UsageError(
            f"{source.path.name} carries no {', '.join(missing) or 'tokenizer'} config, which a diffusers folder needs",
            hint="write a single file (OUT.safetensors), or name a diffusers folder that lends its own",
        )


def _copy_texts(source: Path, target: Path, written: Collection[str]) -> None:
    """Copy everything but the weights of the folders that are written anew; pickles stay behind."""
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if any(part.startswith(".") for part in inside.parts) or not file.is_file():
            continue
        weights = file.suffix == SUFFIX and inside.parts[0] not in written and len(inside.parts) > 1
        if (file.suffix in _COPIED and ".safetensors.index" not in file.name) or weights:
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / inside)
    _forget_absent(target)


def _forget_absent(target: Path) -> None:
    """Strike parts from model_index.json whose weights were pickles or never there, such as a safety checker."""
    path = target / "model_index.json"
    index = json.loads(path.read_text("utf-8"))
    for part in ("safety_checker", "image_encoder"):
        if index.get(part, [None])[0] is not None and not any((target / part).glob(f"*{SUFFIX}")):
            index[part] = [None, None]
    if "safety_checker" in index:
        index["requires_safety_checker"] = index["safety_checker"][0] is not None
    path.write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _write_texts(source: Checkpoint, target: Path) -> None:
    """Write the index, configs and tokenizers that a single file carries."""
    index = family(source.family).model_index(source.configs)
    files = {"model_index.json": json.dumps(index, indent=2)}
    tokenizers = {"tokenizer": source.tokenizer}
    if "tokenizer_2" in index:
        tokenizers["tokenizer_2"] = padded_files(source.tokenizer)
    files |= {f"{folder}/{Path(name).name}": text for folder, each in tokenizers.items() for name, text in each.items()}
    for name in _config_names(source):
        config = "scheduler_config.json" if name == "scheduler" else "config.json"
        files[f"{name}/{config}"] = json.dumps(source.configs[name], indent=2)
    for name, text in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, "utf-8")


def _stored(job: Folding, component: str) -> dict[str, str]:
    """Return the canonical keys of a component by their names in its file."""
    start = f"{component}."
    stored = {key.removeprefix(start): key for key in job.checkpoint.tensors if key.startswith(start)}
    if not stored:
        raise BaseNotFound(f"{job.checkpoint.path.name} has no {component}", hint="a diffusers folder needs all parts")
    return stored


def _write_component(job: Folding, stored: Mapping[str, str], path: Path) -> Written:
    plan = [
        Planned(name=name, dtype=job.dtype_of(key), shape=tuple(job.checkpoint.tensors[key].shape))
        for name, key in stored.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_safe(path, plan, lambda name: _kept(job, stored[name]), {"format": "pt"}, hashes=())


def _kept(job: Folding, key: str) -> Content:
    return job.content(key) if _passes(job, [key], None) else job.tensor(key)


def _say_dtype(config: Path, dtype: torch.dtype) -> None:
    """transformers 5 loads in the dtype that the config names, whatever the file holds."""
    value = json.loads(config.read_text("utf-8"))
    value.pop("torch_dtype", None)
    config.write_text(json.dumps({**value, "dtype": str(dtype).removeprefix("torch.")}, indent=2), "utf-8")


def _sha256(out: Path, known: Mapping[Path, str]) -> str:
    """Return the SHA-256 over the names and the SHA-256 of all files of a folder, some of which are known."""
    result = hashlib.sha256()
    for file in sorted(each for each in out.rglob("*") if each.is_file()):
        result.update(f"{file.relative_to(out).as_posix()}\0{known.get(file) or sha256_file(file)}\0".encode())
    return result.hexdigest()
