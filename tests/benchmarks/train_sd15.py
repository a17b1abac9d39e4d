"""Train the SD 1.5 architecture beside a careful PEFT loop, in turns, and print both.

    python -m tests.benchmarks.train_sd15 [--steps 5 --rounds 5 --batch 1] [--base FOLDER]

Every turn is a process of its own, so that peak memory and the time to the first step belong to one side. Seconds per
step are of steps 2 and later; processor seconds, with OMP_NUM_THREADS=1, hold on a shared machine too. Nothing is
asserted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lora_diffusion.devices import choose_device, choose_precision
from lora_diffusion.settings import from_toml, to_toml
from lora_diffusion.training.plan import TrainPlan
from tests.benchmarks.machine import describe, spread
from tests.benchmarks.sd15 import write_base
from tests.tiny import pictures

OURS, PEFT = "lora-diffusion", "careful PEFT loop"

Turn = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--base", type=Path, help="folder of sd15.write_base; left out it is written and removed")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of our plan")
    parser.add_argument("--channels-last", action="store_true", help="give the PEFT loop this memory format")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plan = _plan(chosen, folder)
        (folder / "plan.toml").write_text(to_toml(plan))
        write_batches(plan, folder / "batches.safetensors")
        turns = _alternate(folder, chosen.rounds, ["--channels-last"] if chosen.channels_last else [])
    device = choose_device(plan.run.device)
    precision = choose_precision(plan.run.precision, device)
    print(f"\nSD 1.5 architecture, 512 x 512, rank 16, attention, {precision}, batch {chosen.batch}")
    print(f"{describe(device)}; {chosen.rounds} rounds of {chosen.steps} steps in turns\n")
    print(report(turns))


def _plan(chosen: argparse.Namespace, folder: Path) -> TrainPlan:
    base = chosen.base or write_base(folder / "base")
    pictures(folder / "pictures", 4, sizes=((512, 512),))
    overrides = [
        f"base.path={base}",
        f"data.folder={folder / 'pictures'}",
        f"data.cache={folder / 'cache'}",
        f"run.out={folder / 'run'}",
        f"run.steps={chosen.steps}",
        f"run.batch_size={chosen.batch}",
        f"run.device={chosen.device}",
        "run.snapshot_every=0",
        "run.tensorboard=false",
        "schedule.kind=constant",
        "schedule.warmup=0",
        *chosen.set,
    ]
    return from_toml(TrainPlan, None, overrides)


def write_batches(plan: TrainPlan, path: Path) -> None:
    """Encode the pictures once, which fills the product's cache, and write what every step sees for the other side."""
    from datasets_tools.cache import TensorCache
    from lora_diffusion.devices import DTYPES
    from lora_diffusion.families import detect, locate
    from lora_diffusion.training.data import TrainingData
    from lora_diffusion.training.encode import Encoder, Texts, encode_sources
    from lora_diffusion.training.events import ignore
    from lora_diffusion.training.samples import load_sources

    device = choose_device(plan.run.device)
    dtype = DTYPES[choose_precision(plan.run.precision, device)]
    base = locate(plan.base.path)
    family = detect(base)
    components = family.load(base, dtype=dtype, device=device)
    sources = load_sources(plan, resolution=components.resolution, step=components.bucket_step)
    encoder = Encoder(family, components, TensorCache(Path(plan.data.cache)), plan=plan)
    texts = Texts(encoder, train_text=False)
    encoded = encode_sources(sources, encoder, texts, plan, ignore)
    data = TrainingData(encoded, texts, plan=plan, timesteps=components.objective.timesteps)
    batches = [data.global_batch(step).micro_batches(0, 1, 0)[0] for step in range(plan.run.steps)]
    save_file(
        {
            "latents": torch.stack([batch.latents for batch in batches]),
            "noise": torch.stack([batch.noise for batch in batches]),
            "timesteps": torch.stack([batch.timesteps for batch in batches]),
            "context": torch.stack([batch.text["context"] for batch in batches]),
            "alphas_cumprod": components.objective.alphas_cumprod.cpu().contiguous(),
        },
        path,
    )


def _alternate(folder: Path, rounds: int, peft_options: list[str]) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {OURS: [], PEFT: []}
    for number in range(rounds):
        sides = {
            OURS: ["tests.benchmarks.ours", str(folder / "plan.toml"), str(folder / f"run-{number}")],
            PEFT: [
                "tests.benchmarks.peft_loop",
                str(folder / "plan.toml"),
                str(folder / "batches.safetensors"),
                *peft_options,
            ],
        }
        for side in sorted(sides, reverse=bool(number % 2)):  # neither always runs second
            turn = run_side(sides[side])
            turns[side].append(turn)
            print(f"round {number + 1} {side}: {spread(turn['seconds'][1:])} s/step, peak {turn['peak']:.2f} GiB")
    return turns


def run_side(command: list[str]) -> Turn:
    """Run one side in a process of its own and return what its last line says."""
    done = subprocess.run(
        [sys.executable, "-m", *command, "--spawned", str(time.time())], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(turns: dict[str, list[Turn]]) -> str:
    """Return both sides, the ratio of medians and how far the losses are apart."""
    heads = ("s/step median / min", "processor s/step", "peak GiB", "end of step 1")
    lines = [f"{'':<20}" + "".join(f"{head:>22}" for head in heads)]
    for side, runs in turns.items():
        fastest = min(second for run in runs for second in run["seconds"][1:])
        first = statistics.median(run["first"] for run in runs)
        peak = statistics.median(run["peak"] for run in runs)
        figures = (
            f"{_median(runs, 'seconds', 1):.2f} / {fastest:.2f}",
            f"{_median(runs, 'processor'):.2f}",
            f"{peak:.2f}",
            f"{first:.1f} s",
        )
        lines.append(f"{side:<20}" + "".join(f"{figure:>22}" for figure in figures))
    ours, peft = turns[OURS], turns[PEFT]
    pairs = [_median([a], "seconds", 1) / _median([b], "seconds", 1) for a, b in zip(ours, peft, strict=True)]
    ratio = _median(ours, "seconds", 1) / _median(peft, "seconds", 1)
    processor = _median(ours, "processor") / _median(peft, "processor")
    apart = max(abs(x - y) / y for a, b in zip(ours, peft, strict=True) for x, y in _losses(a, b))
    return "\n".join(
        [
            *lines,
            f"\nratio of medians {ratio:.2f} (rounds {min(pairs):.2f} to {max(pairs):.2f}), processor {processor:.2f}",
            *(f"{side:<20}losses {' '.join(f'{x:.5f}' for x in turns[side][0]['losses'])}" for side in turns),
            f"largest relative difference of a loss {apart:.1e}",
        ]
    )


def _median(runs: list[Turn], key: str, skip: int = 0) -> float:
    """Return the median over runs of the median step; the first step also warms up."""
    return statistics.median(statistics.median(run[key][skip:]) for run in runs)


def _losses(ours: Turn, peft: Turn) -> list[tuple[float, float]]:
    return list(zip(ours["losses"], peft["losses"], strict=True))


if __name__ == "__main__":
    main()
