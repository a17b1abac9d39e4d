"""The other side of train_sd15: a careful loop with PEFT, as an expert would write it by hand.

Frozen bf16 base, fp32 LoRA factors under autocast, latents and prompts encoded beforehand (so that only the denoiser
is loaded), fused AdamW, the attention that diffusers chooses, and the product's malloc settings: what is compared is
the arithmetic, not who knows of them. Batches and initial LoRA are the product's, so that losses can be compared.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lora_diffusion.adapters.methods.lora import LoRA
from lora_diffusion.devices import DTYPES, choose_device, choose_precision, keep_freed_memory
from lora_diffusion.objectives import objective
from lora_diffusion.seeds import generator
from lora_diffusion.settings import from_toml
from lora_diffusion.training.plan import TrainPlan
from tests.benchmarks.machine import peak_gib


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plan", type=Path)
    parser.add_argument("batches", type=Path)
    parser.add_argument("--spawned", type=float, required=True, help="time.time() when this process was started")
    parser.add_argument("--channels-last", action="store_true")
    chosen = parser.parse_args()
    plan = from_toml(TrainPlan, chosen.plan)
    device = choose_device(plan.run.device)
    if device.type == "cpu":
        keep_freed_memory()
    dtype = DTYPES[choose_precision(plan.run.precision, device)]
    unet, parameters = _adapted_unet(plan, dtype, device, chosen.channels_last)
    batches = {key: value.to(device) for key, value in load_file(chosen.batches).items()}
    result = _train(plan, unet, parameters, batches, device, dtype, chosen.spawned)
    print(json.dumps({**result, "peak": peak_gib(device)}))


def _adapted_unet(
    plan: TrainPlan, dtype: torch.dtype, device: torch.device, channels_last: bool
) -> tuple[Any, list[nn.Parameter]]:
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    unet = UNet2DConditionModel.from_pretrained(Path(plan.base.path) / "unet", torch_dtype=dtype).to(device)
    if channels_last:
        unet = unet.to(memory_format=torch.channels_last)
    unet.requires_grad_(False)
    rank = plan.adapter.rank
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    for name, module in unet.named_modules():
        if hasattr(module, "lora_A"):
            _same_start(module, f"denoiser.{name}", plan)
    return unet.train(), [parameter for parameter in unet.parameters() if parameter.requires_grad]


def _same_start(module: Any, target: str, plan: TrainPlan) -> None:
    """Give a PEFT layer the product's initial factors in fp32."""
    rank, draw = plan.adapter.rank, generator(plan.run.seed, target, "initial")
    start = LoRA.create(module.base_layer, rank=rank, alpha=rank, dropout=0.0, generator=draw)
    for side, factor in (("lora_A", start.down), ("lora_B", start.up)):
        getattr(module, side)["default"].weight.data = factor.data.clone()


def _train(
    plan: TrainPlan,
    unet: nn.Module,
    parameters: list[nn.Parameter],
    batches: dict[str, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    spawned: float,
) -> dict[str, Any]:
    optim = plan.optim
    optimizer = torch.optim.AdamW(
        parameters, lr=optim.lr, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay, fused=True
    )
    goal = objective("epsilon", batches["alphas_cumprod"])
    losses, seconds, clock, first = [], [], [], 0.0
    for step in range(plan.run.steps):
        began = time.perf_counter()
        latents, noise, t, context = (batches[key][step] for key in ("latents", "noise", "timesteps", "context"))
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            answer = unet(goal.noised(latents, noise, t).to(dtype), t, encoder_hidden_states=context.to(dtype)).sample
        loss = (answer.float() - noise).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, optim.max_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - began)
        clock.append(time.process_time())
        first = first or time.time() - spawned
    processor = [after - before for before, after in pairwise(clock)]
    return {"losses": losses, "seconds": seconds, "processor": processor, "first": first}


if __name__ == "__main__":
    main()
