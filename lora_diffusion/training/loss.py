"""The loss of a micro-batch as one module, so that accelerate wraps denoiser and text encoders together."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora_diffusion.adapters.layer import Adapted
from lora_diffusion.families.base import Components, Conditioning, Family
from lora_diffusion.training.data import MicroBatch
from lora_diffusion.training.plan import LossPlan

__all__ = ["LossModule"]


class LossModule(nn.Module):
    """Owns the modules that carry adapters. Its parameters that need a gradient are the adapters' alone."""

    def __init__(self, family: Family, components: Components, plan: LossPlan, *, train_text: bool) -> None:
        super().__init__()
        self.adapted = nn.ModuleDict(components.modules())
        self._family = family
        self._components = components
        self._plan = plan
        self._train_text = train_text

    def forward(self, batch: MicroBatch) -> Tensor:
        """Return the loss of each sample [n] in fp32, times its weight.

        With masks it is the weighted mean over the mask, so that a small motif has the same say as one that fills the
        picture; a plain mean would make the step for a motif of a tenth of the picture ten times smaller.
        """
        components, goal = self._components, self._components.objective
        device = components.device
        latents, noise, t = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        text = {key: value.to(device) for key, value in batch.text.items()}
        noisy = goal.noised(latents, noise, t)
        target = self._base_answer(noisy, t, text) if batch.base_answers else goal.target(latents, noise, t)
        losses = _mean((self._answer(noisy, t, text) - target).square(), batch.masks)
        if self._plan.min_snr_gamma is not None:
            losses = losses * goal.min_snr_weight(t, self._plan.min_snr_gamma)
        return losses * batch.weights.to(device)

    def _answer(self, noisy: Tensor, t: Tensor, text: Conditioning) -> Tensor:
        if self._train_text:
            text = self._family.encode_tokens(self._components, text)
        return self._family.predict(self._components, noisy, t, text)

    @torch.no_grad()
    def _base_answer(self, noisy: Tensor, t: Tensor, text: Conditioning) -> Tensor:
        with self._bare():
            return self._answer(noisy, t, text)

    @contextmanager
    def _bare(self) -> Iterator[None]:
        """Put the frozen modules themselves in the places of the adapted ones: what runs is the base, bit by bit."""
        slots = [slot for slot in self._family.slots(self._components).values() if isinstance(slot.module, Adapted)]
        adapted = [slot.module for slot in slots]
        try:
            for slot in slots:
                slot.put(slot.base)
            yield
        finally:
            for slot, module in zip(slots, adapted, strict=True):
                slot.put(module)


def _mean(errors: Tensor, masks: Tensor | None) -> Tensor:
    """Return the mean of each sample [n], weighted by masks [n, h, w]."""
    if masks is None:
        return errors.mean(dim=(1, 2, 3))
    weights = masks.to(errors.device)
    return (errors.mean(dim=1) * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))
