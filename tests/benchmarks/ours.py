"""One side of train_sd15: the product's own `train`, watched through its events."""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

from lora_diffusion.settings import from_toml
from lora_diffusion.training.events import Event, Stepped
from lora_diffusion.training.plan import TrainPlan


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--spawned", type=float, required=True, help="time.time() when this process was started")
    chosen = parser.parse_args()
    plan = from_toml(TrainPlan, chosen.plan, [f"run.out={chosen.out}"])
    steps: list[Stepped] = []
    first: list[float] = []
    clock: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, Stepped):
            first.append(time.time() - chosen.spawned)
            steps.append(event)
            clock.append(time.process_time())

    from lora_diffusion.devices import choose_device
    from lora_diffusion.training.loop import train
    from tests.benchmarks.machine import peak_gib

    train(plan, on_event=watch)
    print(
        json.dumps(
            {
                "losses": [step.loss for step in steps],
                "seconds": [step.seconds for step in steps],
                "processor": [after - before for before, after in pairwise(clock)],
                "first": first[0],
                "peak": peak_gib(choose_device(plan.run.device)),
            }
        )
    )


if __name__ == "__main__":
    main()
