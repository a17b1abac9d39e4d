"""Training state for an exact resume: adapter, optimiser and step as one unit, or not at all.

A snapshot is a folder that appears by a rename, with the sha256 of each of its files in `manifest.json`. No random
state is stored: every draw is a function of the seed and the step. Nothing in it is pickled.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets_tools.storage import replacing_folder, sha256_file, write_json
from lora_diffusion.errors import SnapshotError
from lora_diffusion.training.best import Best

__all__ = ["Snapshot", "newest", "prune", "restore", "steps", "take"]

_log = logging.getLogger("lora_diffusion")

_STATE, _TENSORS, _MANIFEST = "state.json", "tensors.safetensors", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A verified snapshot after `step` steps. `identity` says of which plan and pictures it is."""

    path: Path
    step: int
    identity: str
    scaler: dict[str, Any]
    best: Best


def take(
    folder: Path,
    *,
    step: int,
    identity: str,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    scaler: dict[str, Any],
    best: Best,
) -> Path:
    """Write a snapshot into a folder of snapshots and return its path. A damaged one in its place is put aside."""
    from safetensors.torch import save_file

    path = folder / f"step-{step:08d}"
    if path.exists() and _is_whole(path):
        return path
    if path.exists():
        path.rename(path.with_name(f"damaged-{path.name}"))
    tensors = {f"parameter.{name}": value.detach().cpu() for name, value in parameters.items()}
    tensors |= _optimizer_tensors(parameters, optimizer)
    with replacing_folder(path) as aside:
        save_file({name: value.contiguous() for name, value in tensors.items()}, aside / _TENSORS)
        write_json(aside / _STATE, {"step": step, "identity": identity, "scaler": scaler, "best": asdict(best)})
        hashes = {name: sha256_file(aside / name) for name in (_TENSORS, _STATE)}
        write_json(aside / _MANIFEST, hashes)
    return path


def newest(folder: Path) -> Snapshot | None:
    """Return the newest snapshot that is whole, or None. A damaged one is named in the log and left where it is."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return _open(path)
        except SnapshotError as error:
            _log.warning("%s; the one before it is used", error)
    return None


def restore(snapshot: Snapshot, *, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put parameters and optimiser state back, bit by bit. Raises SnapshotError when they are of other targets."""
    from safetensors.torch import load_file

    tensors = load_file(snapshot.path / _TENSORS)
    stored = {name.removeprefix("parameter.") for name in tensors if name.startswith("parameter.")}
    if stored != set(parameters):
        odd = sorted(stored ^ set(parameters))[0]
        raise SnapshotError(
            f"{snapshot.path} does not belong to this run: {odd} is only in one of them",
            hint="start a new run in another run.out",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
            optimizer.state[parameter] = _state_of(name, tensors, parameter)


def prune(folder: Path, keep: int) -> None:
    """Remove the oldest snapshots beyond `keep`. Call after a newer one is on the disk."""
    for path in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(path)


def steps(folder: Path) -> list[int]:
    """Return the steps at which there are snapshots, in order; damaged ones count."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def _open(path: Path) -> Snapshot:
    try:
        hashes = json.loads((path / _MANIFEST).read_text("utf-8"))
        for name in (_TENSORS, _STATE):
            if sha256_file(path / name) != hashes[name]:
                raise SnapshotError(f"{path / name} is damaged: its sha256 is not the one in {_MANIFEST}")
        state = json.loads((path / _STATE).read_text("utf-8"))
        return Snapshot(
            path=path,
            step=state["step"],
            identity=state["identity"],
            scaler=state["scaler"],
            best=Best(**state.get("best", {})),  # a snapshot of an earlier version has measured nothing
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{path} is incomplete: {error}") from error


def _is_whole(path: Path) -> bool:
    try:
        _open(path)
    except SnapshotError:
        return False
    return True


def _optimizer_tensors(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer.{key}.{name}": torch.as_tensor(value).detach().cpu()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def _state_of(name: str, tensors: Mapping[str, Tensor], parameter: nn.Parameter) -> dict[str, Tensor]:
    state = {}
    for full, value in tensors.items():
        kind, _, rest = full.partition(".")
        key, _, owner = rest.partition(".")
        if kind == "optimizer" and owner == name:
            state[key] = value.clone() if key == "step" else value.to(parameter.device).clone()
    return state
