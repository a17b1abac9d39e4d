"""The same adapter in fewer numbers."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.factors import core, factors, norm, stack
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.lowrank import Bases, cut, low_rank, require_limit, with_bias, without_bias

__all__ = ["Resized", "resize"]


@dataclass(frozen=True, kw_only=True)
class Resized:
    """A smaller adapter. `report` is the relative error of each delta; `numbers` of the factors before and after."""

    adapter: Adapter
    report: Report
    before: int
    after: int


def resize(
    adapter: Adapter,
    *,
    rank: int | None = None,
    keep: float | None = None,
    energy: float | None = None,
    base: Path | str | None = None,
) -> Resized:
    """Return the best approximation of an adapter of any method by a LoRA of smaller ranks.

    Exactly one limit: `rank` of every module; `keep`, a share of the energy (squared Frobenius norm) of each module; or
    `energy`, a share of that of the whole adapter, kept by as few numbers as possible: directions are taken in the
    order of their energy per number, so ranks differ and a module without a worthwhile direction drops out. A rank that
    is already as low stays, and so does a change of a bias. `base` is the base model; only DoRA needs it, whose delta
    depends on it. Raises UsageError, NotMergeable for a change that no LoRA can hold, WrongFamily for another base.
    """
    if energy is not None:
        if rank is not None or keep is not None:
            raise UsageError("only one of rank, keep and energy can be given", hint="give --energy 0.99 alone")
        if not 0 < energy <= 1:
            raise UsageError(f"a share of {energy} cannot be kept", hint="use a number above 0 and up to 1")
    else:
        require_limit(rank, keep)
    biases = {name: each.extra["bias"] for name, each in adapter.modules.items() if "bias" in each.extra}
    plain = _plain(adapter, Bases(base))
    if energy is not None:
        counts = {name: max(count, name in biases) for name, count in _counts(plain, energy).items()}
        modules = {name: cut(each, rank=counts[name]) for name, each in plain.items() if counts[name]}
    else:
        modules = {name: cut(each, rank=rank, keep=keep) for name, each in plain.items()}
    modules = {name: with_bias(each, biases.get(name)) for name, each in modules.items()}
    return Resized(
        adapter=replace(adapter, modules=modules),
        report=report_of({name: _lost(modules.get(name), each) for name, each in plain.items()}),
        before=sum(_numbers(each) for each in adapter.modules.values()),
        after=sum(_numbers(each) for each in modules.values()),
    )


def _plain(adapter: Adapter, bases: Bases) -> dict[str, Weights]:
    return {
        name: low_rank(without_bias(each), name=f"{adapter.name} at {name}", base=bases.for_any(name, [each]))[0]
        for name, each in adapter.modules.items()
    }


def _numbers(weights: Weights) -> int:
    return sum(each.numel() for each in weights.tensors().values())


def _lost(result: Weights | None, meant: Weights) -> tuple[float, float]:
    whole = factors(meant)
    return norm(stack([whole, factors(result, -1.0)])) if result is not None else norm(whole), norm(whole)


def _counts(modules: dict[str, Weights], energy: float) -> dict[str, int]:
    """Return how many directions each module gets; of one module they come in the order of their singular values."""
    found: list[tuple[float, str, float]] = []
    for name, weights in modules.items():
        values = torch.linalg.svdvals(core(factors(weights))[2]) ** 2
        cost = weights.shape[0] + torch.Size(weights.shape[1:]).numel()
        found += [(float(value) / cost, name, float(value)) for value in values]
    found.sort(key=lambda each: (-each[0], each[1]))
    wanted = min(energy, 1 - 1e-13) * sum(each[2] for each in found)
    counts, kept = dict.fromkeys(modules, 0), 0.0
    for _, name, value in found:
        if kept >= wanted:
            break
        counts[name] += 1
        kept += value
    return counts
