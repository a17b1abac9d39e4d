"""What live adapters cost: pictures with 0, 1 and 3 of them, and changing the weights of 3, in turns.

    python -m tests.benchmarks.generate [--base demo] [--rounds 5 --steps 10 --size 128]

With `--base FOLDER --size 512 --steps 2` on a folder of sd15.write_base it is the SD 1.5 architecture. Nothing is
asserted.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from lora_diffusion.adapters.inject import choose_targets
from lora_diffusion.adapters.spec import AdapterSpec, Weights
from lora_diffusion.devices import choose_device
from lora_diffusion.families import detect, locate
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.generation.generator import Generator
from lora_diffusion.seeds import generator
from tests.benchmarks.machine import describe, spread

RANK = 16
NAMES = ("a", "b", "c")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="demo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--size", type=int, default=0, help="side in pixels; 0 takes the base model's")
    chosen = parser.parse_args()
    adapters = random_adapters(chosen.base)
    with Generator.open(chosen.base) as model:
        size = (chosen.size or model.resolution,) * 2

        def draw() -> None:
            model.generate("a rocket icon", seed=0, steps=chosen.steps, size=size)

        draw()  # warms up
        times = _measure(model, adapters, draw, chosen.rounds)
    print(f"{chosen.base}, {size[0]} x {size[1]}, {chosen.steps} steps with guidance, rank {RANK}, attention")
    print(f"{describe(choose_device('auto'))}; {chosen.rounds} rounds in turns\n")
    print(report(times))


def random_adapters(base: str) -> list[Adapter]:
    """Return three adapters of every attention target with seeded random factors."""
    path = locate(base)
    family = detect(path)
    slots = family.slots(family.load(path, dtype=torch.bfloat16, device=torch.device("meta")))
    targets = choose_targets(slots, AdapterSpec(rank=RANK, targets=("attention",)), family.targets)
    return [
        Adapter(
            name=name,
            family=family.name,
            modules={target: _random(name, target, slots[target].base.weight.shape) for target in targets},
        )
        for name in NAMES
    ]


def _random(name: str, target: str, shape: torch.Size) -> Weights:
    draw = generator(0, name, target)
    down, up = (torch.randn(size, generator=draw) * 0.01 for size in ((RANK, shape[1]), (shape[0], RANK)))
    return Weights(down=down, up=up, alpha=float(RANK))


def _measure(
    model: Generator, adapters: list[Adapter], draw: Callable[[], None], rounds: int
) -> dict[str, list[float]]:
    """Return seconds by what was timed. Every round draws with each number of adapters."""
    times: dict[str, list[float]] = {key: [] for key in ("0", "1", "3", "change", "first")}
    for number in range(rounds):
        times["0"].append(_timed(draw))
        model.add(adapters[0], 0.5)
        draw()  # stacks the factors of the live adapters once
        times["1"].append(_timed(draw))
        for adapter in adapters[1:]:
            model.add(adapter, 0.5)
        draw()
        times["3"].append(_timed(draw))
        weights = dict(zip(NAMES, (0.1 * number, 0.7, -0.2), strict=True))
        times["change"].append(_timed(partial(setattr, model, "blend", weights)))
        times["first"].append(_timed(draw))
        for name in NAMES:
            model.remove(name)
    return times


def _timed(action: Callable[[], None]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def report(times: dict[str, list[float]]) -> str:
    """Return seconds per picture, median / min, and ratios to the bare base."""
    bare, three = (statistics.median(times[key]) for key in ("0", "3"))
    lines = [
        f"{key} adapters   {spread(times[key], 3)} s a picture, {statistics.median(times[key]) / bare:.3f} of the base"
        for key in ("0", "1", "3")
    ]
    lines.append(f"changing 3 weights {spread([1000 * second for second in times['change']], 1)} ms")
    later = 1000 * (statistics.median(times["first"]) - three)
    lines.append(
        f"first picture after that {spread(times['first'], 3)} s, {later:+.0f} ms against one without a change"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
