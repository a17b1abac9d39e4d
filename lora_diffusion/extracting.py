"""An adapter out of a fine-tuned checkpoint: the low-rank part of what training changed in its base model.

Both are streamed; memory holds one pair of tensors at a time and the factors found so far.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, UsageError, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import EXTRA, Checkpoint, open_checkpoint
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.lowrank import best_fit, require_limit
from lora_diffusion.scaled import holds_scaled

__all__ = ["Extracted", "extract"]

_ADAPTED = ("denoiser.", "text_encoder.", "text_encoder_2.")


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """An adapter and what it lacks. `report` is the share of each layer's change that the rank leaves out.

    `left_out` holds the norm of each change that no LoRA can carry, by tensor: biases, norms, embeddings, the VAE;
    `left_share` is their part of the norm of the whole change.
    """

    adapter: Adapter
    report: Report
    left_out: Mapping[str, float]
    left_share: float


@dataclass(kw_only=True)
class _Found:
    modules: dict[str, Weights] = field(default_factory=dict)
    sizes: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[str, float] = field(default_factory=dict)


def extract(
    tuned: Path | str,
    base: Path | str,
    *,
    rank: int | None = None,
    keep: float | None = None,
    family: str | None = None,
    name: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """Return the adapter whose deltas are the best fit of tuned - base in every Linear and convolution that differs.

    `rank` is that of every module (no more than its smaller side), or `keep` the share of the energy of each change
    that its rank keeps. `family` is checked where it is given; `name` defaults to that of the tuned checkpoint. Tensors
    that differ by no more than the coarser of the two precisions count as equal. Raises UsageError where nothing
    differs, WrongFamily or TargetError where the two do not belong together, BaseNotFound and CorruptFile.
    """
    require_limit(rank, keep)
    ours, theirs = open_checkpoint(Path(tuned)), open_checkpoint(Path(base))
    _check(ours, theirs, family)
    keys = _compared(theirs)
    found = _Found()
    for number, key in enumerate(keys, 1):
        _take(key, ours, theirs, found, rank, keep)
        if on_progress is not None:
            on_progress(number, len(keys))
    if not found.modules:
        raise UsageError(
            f"{ours.path.name} differs from {theirs.path.name} in nothing that an adapter can hold",
            hint="name the checkpoint that was trained, and the base model that its training began with",
        )
    said = {"tuned": ours.path.stem, "base": theirs.path.stem, "rank": rank, "keep": keep}
    left, taken = math.hypot(*found.left_out.values()), math.hypot(*(size for _, size in found.sizes.values()))
    return Extracted(
        adapter=Adapter(
            name=name or ours.path.stem,
            family=theirs.family,
            modules=found.modules,
            metadata={"lora_diffusion.extracted": json.dumps(said)},
        ),
        report=report_of(found.sizes),
        left_out=found.left_out,
        left_share=left / math.hypot(left, taken),
    )


def _check(tuned: Checkpoint, base: Checkpoint, family: str | None) -> None:
    for each in (tuned, base):
        if family is not None and each.family != family:
            raise WrongFamily(f"{each.path.name} is of {each.family}, not {family}", hint="name another checkpoint")
        if holds_scaled([stored.key for stored in each.tensors.values()], each.metadata):
            raise UsageError(
                f"{each.path.name} holds scaled 8-bit weights, whose rounding is larger than most trainings",
                hint="use the 16- or 32-bit checkpoint that it was made of",
            )
    if tuned.family != base.family:
        raise WrongFamily(
            f"{tuned.path.name} is of {tuned.family}, {base.path.name} of {base.family}",
            hint="name the base model that the training began with",
        )
    for key in _compared(base):
        stored = base.tensors[key]
        if key not in tuned.tensors or tuned.tensors[key].shape != stored.shape:
            shape = tuple(tuned.tensors[key].shape) if key in tuned.tensors else "nothing"
            raise TargetError(
                f"{tuned.path.name} has {shape} for {key}, {base.path.name} has {tuple(stored.shape)}",
                hint="name the base model that the training began with",
            )


def _compared(base: Checkpoint) -> list[str]:
    """Without numbers of positions, which some files hold and others do not, and what belongs to no component."""
    return [key for key, each in base.tensors.items() if each.dtype.is_floating_point and not key.startswith(EXTRA)]


def _take(key: str, tuned: Checkpoint, base: Checkpoint, found: _Found, rank: int | None, keep: float | None) -> None:
    ours, theirs = tuned.tensor(key), base.tensor(key)
    if _same(ours, theirs):
        return
    change = ours.float() - theirs.float()
    size = float(torch.linalg.vector_norm(change, dtype=torch.float64))
    if not _is_adaptable(key, change):
        found.left_out[key] = size
        return
    module = key.removesuffix(".weight")
    found.modules[module], lost = best_fit(change, tuple(change.shape), rank=rank, keep=keep)
    found.sizes[module] = lost, size


def _same(one: Tensor, other: Tensor) -> bool:
    return one.equal(other.to(one.dtype)) or other.equal(one.to(other.dtype))


def _is_adaptable(key: str, change: Tensor) -> bool:
    """Tables of tokens and positions are looked up, not multiplied with: no adapter layer stands beside them."""
    return key.startswith(_ADAPTED) and key.endswith(".weight") and change.ndim in (2, 4) and ".embeddings." not in key
