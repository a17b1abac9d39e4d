"""Training of bfloat16 modules through fp32 master weights, with a running mean of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_diffusion.errors import DeviceError

__all__ = ["Rates", "Weights"]

MAX_NORM = 1.0
SMALLEST_MATRIX = 8  # below that an orthogonal update has nothing to orthogonalise


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Peak learning rates, AdamW's second moment and the decay of the running mean."""

    adamw: float
    muon: float
    beta2: float
    weight_decay: float
    mean: float


class Weights:
    """Owns the optimisers of some parameters: Muon for matrices and kernels, AdamW for the rest.

    Muon (Jordan 2024) reached in 200 steps of the VAE what AdamW, at the one rate tried, had not after 700.
    `adamw_only` names parameters that are tables or ends of the network, where it does not apply. Raises DeviceError
    where torch lacks Muon.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], rates: Rates, adamw_only: Iterable[nn.Parameter] = ()
    ) -> None:
        self._working: list[Tensor] = [p for p in parameters if p.requires_grad]
        self._masters = [_master(p) for p in self._working]
        self._mean = [master.clone() for master in self._masters]
        self._decay = rates.mean
        self._steps = 0
        # Muon takes matrices: kernels [out, in, h, w] are handed over as views [out, in * h * w]
        self._leaves = [nn.Parameter(m.flatten(1) if m.ndim > 1 else m) for m in self._masters]
        self._optimizers = self._new_optimizers(rates, {id(p) for p in adamw_only})

    def step(self, factor: float) -> None:
        """Take a step along the gradients at `factor` times the peak rates, and clear them."""
        for working, leaf in zip(self._working, self._leaves, strict=True):
            leaf.grad = None if working.grad is None else working.grad.float().reshape(leaf.shape)
            working.grad = None
        nn.utils.clip_grad_norm_(self._leaves, MAX_NORM)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
        self._steps += 1
        self._follow()

    def load_mean(self) -> None:
        """Give the modules the running mean of all steps, which is what training leaves behind."""
        self._load(self._mean)

    @torch.no_grad()
    def _follow(self) -> None:
        self._load(self._masters)
        decay = min(self._decay, self._steps / (self._steps + 10))
        torch._foreach_lerp_(self._mean, self._masters, 1 - decay)

    @torch.no_grad()
    def _load(self, values: Sequence[Tensor]) -> None:
        torch._foreach_copy_(self._working, list(values))

    def _new_optimizers(self, rates: Rates, adamw_only: set[int]) -> list[torch.optim.Optimizer]:
        muon = [leaf for p, leaf in zip(self._working, self._leaves, strict=True) if _is_matrix(p, leaf, adamw_only)]
        chosen = {id(p) for p in muon}
        rest = [leaf for leaf in self._leaves if id(leaf) not in chosen]
        if not hasattr(torch.optim, "Muon"):
            raise DeviceError(f"torch {torch.__version__} has no Muon optimiser", hint="install torch 2.9 or later")
        return [
            torch.optim.Muon([{"params": muon, "peak": rates.muon}], weight_decay=rates.weight_decay),
            torch.optim.AdamW(
                [{"params": rest, "peak": rates.adamw}],
                betas=(0.9, rates.beta2),
                weight_decay=rates.weight_decay,
                fused=True,
            ),
        ]


def _master(working: Tensor) -> Tensor:
    return working.detach().float().clone(memory_format=torch.contiguous_format)


def _is_matrix(working: Tensor, leaf: Tensor, adamw_only: set[int]) -> bool:
    return leaf.ndim == 2 and min(leaf.shape) >= SMALLEST_MATRIX and id(working) not in adamw_only
