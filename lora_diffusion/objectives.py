"""What the denoiser learns to predict: noised input, target and loss weight.

With a(t) = alphas_cumprod: x_t = sqrt(a) x + sqrt(1 - a) noise and snr = a / (1 - a) (Ho et al. 2020). Tensors are
[n, c, h, w] in fp32, timesteps [n] int64.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lora_diffusion.errors import BaseNotFound

__all__ = ["Epsilon", "Objective", "VPrediction", "objective"]


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """A noise schedule and what is predicted on it."""

    alphas_cumprod: Tensor

    name: ClassVar[str]

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        signal, spread = self._coefficients(t)
        return signal * x + spread * noise

    @abstractmethod
    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what the denoiser should answer for x_t."""

    @abstractmethod
    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        """Return the loss weight [n] of Min-SNR-gamma (Hang et al. 2023) for this prediction."""

    def _snr(self, t: Tensor) -> Tensor:
        a = self.alphas_cumprod.to(t.device)[t].double()
        return a / (1 - a).clamp(min=1e-12)

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        a = self.alphas_cumprod.to(t.device)[t].view(-1, 1, 1, 1)
        return a.sqrt(), (1 - a).sqrt()


class Epsilon(Objective):
    """The denoiser predicts the noise."""

    name = "epsilon"

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        snr = self._snr(t)
        return (snr.clamp(max=gamma) / snr.clamp(min=1e-8)).float()


class VPrediction(Objective):
    """The denoiser predicts v = sqrt(a) noise - sqrt(1 - a) x (Salimans and Ho 2022)."""

    name = "v_prediction"

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        signal, spread = self._coefficients(t)
        return signal * noise - spread * x

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        snr = self._snr(t)
        return (snr.clamp(max=gamma) / (snr + 1)).float()


def objective(prediction_type: str, alphas_cumprod: Tensor) -> Objective:
    """Return the objective that a scheduler config names. Raises BaseNotFound for one that is not trained here."""
    known: dict[str, type[Objective]] = {cls.name: cls for cls in (Epsilon, VPrediction)}
    if prediction_type not in known:
        raise BaseNotFound(
            f"the base model's scheduler predicts {prediction_type!r}, which cannot be trained",
            hint=f"set prediction_type in scheduler_config.json to one of: {', '.join(known)}",
        )
    return known[prediction_type](alphas_cumprod=alphas_cumprod.to(torch.float32))
