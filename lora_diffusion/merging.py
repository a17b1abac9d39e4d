"""Fold adapters into the weights of a base model: W + sum of w_i * delta_i, in fp32, cast once.

Rounding can lose half of a subtle style in bf16 (measured: 48 % of the weights do not move for a delta of 0.3 % of the
base), so the share that is lost is part of the result. Tensors are streamed: memory holds one of them at a time.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets_tools.storage import replacing, replacing_folder, require_space, sha256_file
from lora_diffusion.adapters.methods.lora import delta_weight
from lora_diffusion.errors import BaseNotFound, TargetError, UsageError, VerificationFailed, WrongFamily
from lora_diffusion.families.layout import is_vae_attention
from lora_diffusion.files.adapter import SUFFIX, Adapter
from lora_diffusion.files.checkpoint import CONFIGS_KEY, EXTRA, FOLDERS, TOKENIZER_KEY, Checkpoint, open_checkpoint
from lora_diffusion.files.precision import cast, precision_of
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.files.safe import HASH_KEY, PAYLOAD_KEY, open_safe
from lora_diffusion.files.writing import Planned, write_safe
from lora_diffusion.outputs import require_free

__all__ = ["Merged", "merge"]

_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_COPIED = {".json", ".txt", ".model"}


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged checkpoint. `sha256` is that of the file, or over the files of a folder in the order of their names;
    `report` is the share of each delta, and of all, that rounding lost."""

    path: Path
    sha256: str
    report: Report


def merge(
    base: Path | str,
    adapters: Sequence[tuple[Adapter, float]],
    out: Path | str,
    *,
    precision: str | None = None,
    configs: Path | str | None = None,
    overwrite: bool = False,
) -> Merged:
    """Write a checkpoint of `base` with weighted adapters folded in.

    `base` is a local diffusers folder or single file. `out` with the suffix .safetensors becomes a single file in the
    original layout, anything else a new diffusers folder. `precision` is "fp16",
    "bf16", "fp32", or None to keep each tensor's own; then tensors that no adapter touches stay bit-equal. `configs` is
    a diffusers folder that lends configs and tokenizer where a single file without them becomes a folder; keys of such
    a file that belong to no component (an EMA copy) stay behind then.

    Raises WrongFamily or TargetError for the first target that does not fit, UsageError, BaseNotFound; nothing is
    written then, nor when reading back finds a difference (VerificationFailed).
    """
    out, checkpoint = Path(out), open_checkpoint(Path(base))
    _require_other(checkpoint.path, out)
    require_free(out, overwrite)
    parts = sorted(adapters, key=lambda part: (part[0].fingerprint, part[1]))
    job = _Job(checkpoint=checkpoint, parts=parts, dtype=None if precision is None else precision_of(precision))
    job.check()
    checkpoint.verify()
    require_space(out.parent, sum(job.size(key) for key in checkpoint.tensors), f"the merged checkpoint {out.name}")
    write = _write_single_file if out.suffix == SUFFIX else _write_folder
    lender = None if configs is None else open_checkpoint(Path(configs))
    write(job, out, lender)
    return Merged(path=out, sha256=_sha256(out), report=report_of(job.losses))


def _require_other(base: Path, out: Path) -> None:
    if out.exists() and base.exists() and out.samefile(base):
        raise UsageError(f"{out} is the base model itself", hint="give the merged checkpoint another name")


@dataclass(kw_only=True)
class _Job:
    """What one merge knows; `losses` fills up while tensors pass by."""

    checkpoint: Checkpoint
    parts: Sequence[tuple[Adapter, float]]
    dtype: torch.dtype | None
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)

    def check(self) -> None:
        for adapter, weight in self.parts:
            if adapter.family != self.checkpoint.family:
                raise WrongFamily(
                    f"adapter {adapter.name} is for {adapter.family}, the base model is {self.checkpoint.family}",
                    hint="merge it into a base model of its own family",
                )
            if not torch.isfinite(torch.tensor(weight)):
                raise UsageError(f"the weight of {adapter.name} is {weight}", hint="use a number, for example 0.8")
            for module in adapter.modules:
                self._check_target(adapter, module)

    def _check_target(self, adapter: Adapter, module: str) -> None:
        stored = self.checkpoint.tensors.get(f"{module}.weight")
        if stored is None:
            raise TargetError(
                f"adapter {adapter.name} changes {module}, which {self.checkpoint.path.name} does not have",
                hint="it was trained on a base model of another shape",
            )
        weights = adapter.modules[module]
        inside = weights.down.shape[1:].numel()
        if (weights.up.shape[0], inside) != (stored.shape[0], torch.Size(stored.shape[1:]).numel()):
            raise TargetError(
                f"adapter {adapter.name} does not fit {module}: {weights.up.shape[0]} x {inside}, "
                f"the base model has {tuple(stored.shape)}",
                hint="it was trained on a base model of another size",
            )

    def dtype_of(self, key: str) -> torch.dtype:
        found = self.checkpoint.tensors[key].dtype
        return self.dtype if self.dtype is not None and found.is_floating_point else found

    def size(self, key: str) -> int:
        return torch.Size(self.checkpoint.tensors[key].shape).numel() * self.dtype_of(key).itemsize

    def tensor(self, key: str) -> Tensor:
        """Return a tensor of the merged checkpoint by its canonical key."""
        tensor, dtype = self.checkpoint.tensor(key), self.dtype_of(key)
        module = key.removesuffix(".weight")
        touching = [(adapter.modules[module], weight) for adapter, weight in self.parts if module in adapter.modules]
        if not touching or not key.endswith(".weight"):
            return cast(tensor, dtype, name=key)
        delta = torch.zeros(tensor.shape)
        for weights, weight in touching:
            delta += weight * delta_weight(weights, tensor.shape)
        exact = tensor.float() + delta
        result = cast(exact, dtype, name=key)
        self.losses[module] = _norm(result.float() - exact), _norm(delta)
        return result


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _write_single_file(job: _Job, out: Path, lender: Checkpoint | None) -> None:
    checkpoint = job.checkpoint
    keys = {_original(checkpoint, key): key for key in checkpoint.tensors}
    plan = [
        Planned(name=name, dtype=job.dtype_of(key), shape=_original_shape(key, checkpoint.tensors[key].shape))
        for name, key in keys.items()
    ]
    shapes = {each.name: each.shape for each in plan}
    with replacing(out) as temporary:
        write_safe(
            temporary,
            plan,
            lambda name: job.tensor(keys[name]).reshape(shapes[name]),
            _metadata(job, lender),
            hashes=(HASH_KEY,),
        )
        _require_intact(temporary, keys)


def _original(checkpoint: Checkpoint, key: str) -> str:
    name = key.removeprefix(EXTRA) if key.startswith(EXTRA) else checkpoint.layout.original(key)
    if name is None:
        raise BaseNotFound(f"{key} has no place in the original layout", hint="merge into a diffusers folder instead")
    return name


def _original_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1) if is_vae_attention(key) else shape


def _metadata(job: _Job, lender: Checkpoint | None) -> dict[str, str]:
    checkpoint = job.checkpoint
    source = lender or checkpoint
    own = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": checkpoint.path.stem,
        "modelspec.merged_from": ", ".join([checkpoint.path.stem, *(adapter.name for adapter, _ in job.parts)]),
        "lora_diffusion.family": checkpoint.family,
        "lora_diffusion.merged": json.dumps(
            [{"name": each.name, "weight": weight, "fingerprint": each.fingerprint} for each, weight in job.parts]
        ),
    }
    if source.configs:
        own[CONFIGS_KEY] = json.dumps(source.configs, sort_keys=True)
    if source.tokenizer:
        own[TOKENIZER_KEY] = json.dumps(source.tokenizer, sort_keys=True)
    kept = {key: value for key, value in checkpoint.metadata.items() if key not in (HASH_KEY, PAYLOAD_KEY)}
    return {**kept, **own}


def _write_folder(job: _Job, out: Path, lender: Checkpoint | None) -> None:
    source = lender or job.checkpoint
    _require_configs(source)
    with replacing_folder(out) as temporary:
        if source.folder is not None:
            _copy_texts(source.folder, temporary)
        else:
            _write_texts(source, temporary)
        for component, name in FOLDERS.items():
            _write_component(job, component, temporary / name / f"{_WEIGHTS[name]}{SUFFIX}")
        if job.dtype is not None:
            _say_dtype(temporary / "text_encoder" / "config.json", job.dtype)


def _require_configs(source: Checkpoint) -> None:
    missing = [name for name in ("unet", "vae", "text_encoder", "scheduler") if name not in source.configs]
    if missing or (source.folder is None and not source.tokenizer):
        raise UsageError(
            f"{source.path.name} carries no {', '.join(missing) or 'tokenizer'} config, which a diffusers folder needs",
            hint="write a single file (OUT.safetensors), or name a diffusers folder that lends its own",
        )


def _copy_texts(source: Path, target: Path) -> None:
    """Copy everything but the weights that are written anew; pickles stay behind."""
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if any(part.startswith(".") for part in inside.parts) or not file.is_file():
            continue
        weights = file.suffix == SUFFIX and inside.parts[0] not in FOLDERS.values() and len(inside.parts) > 1
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
    index["requires_safety_checker"] = index.get("safety_checker", [None])[0] is not None
    path.write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _write_texts(source: Checkpoint, target: Path) -> None:
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", source.configs["scheduler"].get("_class_name", "DDIMScheduler")],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    files = {"model_index.json": json.dumps(index, indent=2)}
    files |= {f"tokenizer/{Path(name).name}": text for name, text in source.tokenizer.items()}
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        config = "scheduler_config.json" if name == "scheduler" else "config.json"
        files[f"{name}/{config}"] = json.dumps(source.configs[name], indent=2)
    for name, text in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, "utf-8")


def _write_component(job: _Job, component: str, path: Path) -> None:
    start = f"{component}."
    stored = {key.removeprefix(start): key for key in job.checkpoint.tensors if key.startswith(start)}
    if not stored:
        raise BaseNotFound(f"{job.checkpoint.path.name} has no {component}", hint="a diffusers folder needs all parts")
    plan = [
        Planned(name=name, dtype=job.dtype_of(key), shape=tuple(job.checkpoint.tensors[key].shape))
        for name, key in stored.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safe(path, plan, lambda name: job.tensor(stored[name]), {"format": "pt"}, hashes=(HASH_KEY,))
    _require_intact(path, stored)


def _say_dtype(config: Path, dtype: torch.dtype) -> None:
    """transformers 5 loads in the dtype that the config names, whatever the file holds."""
    value = json.loads(config.read_text("utf-8"))
    value.pop("torch_dtype", None)
    config.write_text(json.dumps({**value, "dtype": str(dtype).removeprefix("torch.")}, indent=2), "utf-8")


def _require_intact(path: Path, names: Mapping[str, Any]) -> None:
    file = open_safe(path)
    file.verify()
    if set(file.entries) != set(names):
        raise VerificationFailed(f"{path.name} reads back with other tensors than were written")


def _sha256(out: Path) -> str:
    if out.is_file():
        return sha256_file(out)
    result = hashlib.sha256()
    for file in sorted(each for each in out.rglob("*") if each.is_file()):
        result.update(f"{file.relative_to(out).as_posix()}\0{sha256_file(file)}\0".encode())
    return result.hexdigest()
