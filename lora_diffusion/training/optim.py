"""The optimiser of a run, and its rate as a function of the step."""

import math
from collections.abc import Mapping

import torch
from torch import nn

from lora_diffusion.training.plan import OptimPlan, SchedulePlan

__all__ = ["optimizer", "rate_factor", "set_rate"]


def optimizer(parameters: Mapping[str, nn.Parameter], plan: OptimPlan) -> torch.optim.Optimizer:
    """Return AdamW over parameters by name; those of text encoders get their own rate."""
    text = [p for name, p in parameters.items() if name.startswith("text_encoder")]
    rest = [p for name, p in parameters.items() if not name.startswith("text_encoder")]
    groups = [{"params": rest, "peak": plan.lr}, {"params": text, "peak": plan.text_lr or plan.lr}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.lr,
        betas=plan.betas,
        eps=plan.eps,
        weight_decay=plan.weight_decay,
        fused=True,
    )


def rate_factor(plan: SchedulePlan, step: int, steps: int) -> float:
    """Return what the peak rate is multiplied by at a step counted from 0. Nothing to store for a resume."""
    warmup = plan.warmup * steps
    rise = min(1.0, (step + 1) / warmup) if warmup > 1 else 1.0
    if plan.kind == "constant":
        return rise
    done = max(0.0, step - warmup) / max(1.0, steps - warmup)
    return rise * (plan.floor + (1 - plan.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to its peak rate times the factor; return the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return float(optimizer.param_groups[0]["lr"])
