"""What the processes of test_resume run."""

import os
import signal
from pathlib import Path

import torch
from accelerate import Accelerator  # noqa: F401 - what training imports late is here early: once for all children
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from datasets_tools import storage
from lora_diffusion.training import loop
from lora_diffusion.training.events import Event, Stepped, ignore
from lora_diffusion.training.plan import TrainPlan

EXIT = 9


def train_or_resume(plan: str, on_event=ignore) -> None:
    torch.set_num_threads(1)
    wanted = TrainPlan.model_validate_json(plan)
    out = Path(wanted.run.out)
    if (out / "plan.toml").exists():
        loop.resume(out, on_event=on_event)
    else:
        loop.train(wanted, on_event=on_event)


def train_until_boundary(plan: str, last: int) -> None:
    """Die without a word at the n-th write, fsync or rename."""
    count = 0

    def boundary(kind: str, path: Path) -> None:
        nonlocal count
        if count == last:
            os._exit(EXIT)
        count += 1

    storage._boundary = boundary
    train_or_resume(plan)


def train_and_signal(plan: str, number: int) -> None:
    """Send this process a signal within the fifth step."""

    def tell(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 5:
            os.kill(os.getpid(), signal.Signals(number))

    train_or_resume(plan, on_event=tell)
