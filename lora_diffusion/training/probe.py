"""Measure what a plan needs by training it for a moment: time, memory and disk, on this machine, at the largest size.

The probe is a process of its own: its peak memory is the run's, and where memory does not suffice the system ends the
probe and not the check. It trains a copy of the plan on a few of its pictures in a temporary folder.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets_tools.bucket import BucketRule, bucket_for
from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.settings import from_toml, to_toml
from lora_diffusion.training.data import REGULARISATION_SHARE
from lora_diffusion.training.masks import ALPHA
from lora_diffusion.training.plan import TrainPlan, ValidationPlan
from lora_diffusion.training.samples import PictureSet, Sources

__all__ = ["Needs", "OutOfMemory", "probe"]

_STEPS = 4  # the first is slower by compilation, caches and growing memory; the median of the others is used
_ENCODED = 2  # pictures, where there are so many: the first encoding is slower, as the first step is
_SECONDS = 900
_DISTRIBUTED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}


class OutOfMemory(LoraDiffusionError):
    """The probe step did not fit into memory."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the probe measured: seconds and bytes.

    Args:
        seconds_per_step: median at the largest size, without the first step.
        start_seconds: loading the base model, the injection, the first step's surplus.
        encode_seconds: for one view of one picture, without the first where there are two; once per picture and run.
        peak_bytes: of the process, or of the GPU where it trains there.
        cache_bytes: for one view of one picture, with its caption; `snapshot_bytes`: one snapshot.
    """

    seconds_per_step: float
    start_seconds: float
    encode_seconds: float
    peak_bytes: int
    cache_bytes: int
    snapshot_bytes: int


def probe(plan: TrainPlan, sources: Sources, rules: Sequence[BucketRule]) -> Needs:
    """Train `plan` for a few steps on the pictures of its largest bucket by any of `rules`, one for each resolution.

    Of ordinary pictures those of their own largest bucket are taken, as many as a step sees; where the largest size of
    the style is one of data.more_resolutions they are measured at it too, which is more than training asks of them.
    Raises OutOfMemory where the step does not fit, LoraDiffusionError with what the trainer said where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="lora-diffusion-probe-") as temporary:
        place = Path(temporary)
        largest = _copy_pictures(sources.style, rules, max(_ENCODED, plan.run.batch_size), place / "pictures")
        if sources.regularisation:
            beside = -(-plan.run.batch_size // REGULARISATION_SHARE)
            _copy_pictures(sources.regularisation, rules[:1], beside, place / "ordinary")
        (place / "plan.toml").write_text(to_toml(_small(plan, place, largest)), encoding="utf-8")
        # under accelerate launch the probe is still one process
        environment = {name: value for name, value in os.environ.items() if name not in _DISTRIBUTED}
        command = [sys.executable, "-m", "lora_diffusion.training.probe", str(place)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LoraDiffusionError(
                f"{_STEPS} steps took longer than {_SECONDS} s", hint="lower data.resolution or run.batch_size"
            ) from error
        return _needs(done)


def _needs(done: "subprocess.CompletedProcess[str]") -> Needs:
    if done.returncode == 0:
        return Needs(**json.loads(done.stdout.splitlines()[-1]))
    said = done.stderr.strip().splitlines()
    if done.returncode in (-9, 137) or any("out of memory" in line.lower() or "MemoryError" in line for line in said):
        raise OutOfMemory("one step at the largest size does not fit into memory", hint=LESS_MEMORY)
    raise LoraDiffusionError(
        f"a probe step failed: {said[-1] if said else done.returncode}", hint="train shows the same"
    )


LESS_MEMORY = "set run.gradient_checkpointing=true, lower run.micro_batch, data.resolution or adapter.rank"


def _copy_pictures(pictures: PictureSet, rules: Sequence[BucketRule], count: int, target: Path) -> BucketRule:
    """Copy so many pictures of the largest bucket, different ones as far as there are; return the rule that makes it.

    Raises LoraDiffusionError where a picture vanished meanwhile.
    """
    records = pictures.manifest.records
    sized = [(bucket_for(each.width, each.height, rule), rule, each) for rule in rules for each in records]
    most, chosen_rule, _ = max(sized, key=lambda one: (one[0].width * one[0].height, one[0]))
    chosen = [record for bucket, rule, record in sized if (bucket, rule) == (most, chosen_rule)]
    target.mkdir()
    for number in range(count):
        record = chosen[number % len(chosen)]
        copy = target / f"{number}{Path(record.file).suffix}"
        try:
            shutil.copyfile(pictures.manifest.path(record), copy)
        except OSError as error:
            raise LoraDiffusionError(f"{record.file} cannot be copied: {error.strerror}", hint="check again") from error
        copy.with_suffix(".txt").write_text(record.caption or "picture", encoding="utf-8")
    return chosen_rule


def _small(plan: TrainPlan, place: Path, largest: BucketRule) -> TrainPlan:
    """Return the plan with the same work per step, but few steps, own folders and nothing beside the steps."""
    data: dict[str, object] = {
        "folder": str(place / "pictures"),
        "cache": str(place / "cache"),
        "masks": ALPHA if plan.data.masks == ALPHA else "",
        "regularisation": str(place / "ordinary") if plan.data.regularisation else "",
        "captions": "optional",
        "repeats": {},
        "rights": "optional",
        "resolution": largest.resolution,
        "more_resolutions": (),
    }
    run = {"out": str(place / "run"), "steps": _STEPS, "snapshot_every": 0, "tensorboard": False}
    return plan.model_copy(
        update={
            "data": plan.data.model_copy(update=data),
            "run": plan.run.model_copy(update=run),
            "previews": plan.previews.model_copy(update={"every": 0}),
            "validation": ValidationPlan(),
        }
    )


def _measure(place: Path) -> dict[str, Any]:
    """Train the plan in `place`: what the child process does."""
    from lora_diffusion.training.events import Encoded, Event, Stepped
    from lora_diffusion.training.loop import train

    began, encodings, seconds = time.perf_counter(), [], []

    def hear(event: Event) -> None:
        if isinstance(event, Encoded) and event.seconds:
            encodings.append(event.seconds)
        elif isinstance(event, Stepped):
            seconds.append(event.seconds)

    plan = from_toml(TrainPlan, place / "plan.toml")
    train(plan, on_event=hear)
    steady = statistics.median(seconds[1:])
    whole = time.perf_counter() - began
    return asdict(
        Needs(
            seconds_per_step=steady,
            start_seconds=max(0.0, whole - sum(seconds) - sum(encodings) + seconds[0] - steady),
            encode_seconds=statistics.median(encodings[1:] or encodings),
            peak_bytes=_peak_bytes(),
            cache_bytes=_size(place / "cache") // len(encodings),
            snapshot_bytes=_size(place / "run" / "snapshots"),
        )
    )


def _peak_bytes() -> int:
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_reserved():
        return torch.cuda.max_memory_reserved()
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    status = Path("/proc/self/status")
    if status.exists():  # on Linux the figure below begins with that of the process which started this one
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]))) + "\n")
