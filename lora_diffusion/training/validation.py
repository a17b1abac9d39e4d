"""The loss on pictures that are not trained on: it falls while a style is learnt and rises once pictures are copied."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from datasets_tools.batches import share
from lora_diffusion.families.base import Components, Family
from lora_diffusion.seeds import generator
from lora_diffusion.training.data import MicroBatch
from lora_diffusion.training.encode import EncodedSet, Texts
from lora_diffusion.training.loss import LossModule
from lora_diffusion.training.plan import LossPlan

__all__ = ["Validation"]

PARTS = 4
"""The timesteps are the middles of so many equal parts of the schedule: from nearly clean to nearly noise."""


class Validation:
    """A yardstick: the same pictures, timesteps and noise at every call, nothing dropped, weighted or changed.

    The settings of the loss do not enter it, so that runs with different ones can be compared.
    """

    def __init__(
        self, pictures: EncodedSet, texts: Texts, *, family: Family, components: Components, train_text: bool, seed: int
    ) -> None:
        self._pictures = pictures
        self._texts = texts
        self._module = LossModule(family, components, LossPlan(), train_text=train_text)
        self._timesteps = components.objective.timesteps
        self._seed = seed

    @property
    def size(self) -> int:
        return len(self._pictures.samples)

    def total(self, rank: int = 0, world: int = 1) -> Tensor:
        """Return the sum over one process's pictures of their mean loss, a scalar in fp64 on the CPU.

        Divided by `size`, the sum of all processes is the validation loss. Training is left as it was.
        """
        losses = torch.zeros((), dtype=torch.float64)
        with torch.no_grad(), _without_dropout(self._module):
            for index in share(range(self.size), rank, world):
                if index is not None:
                    losses += self._module(self._batch(index)).double().mean().cpu()
        return losses

    def _batch(self, index: int) -> MicroBatch:
        latents = self._pictures.latents[index][0]
        noise = [
            torch.randn(latents.shape, generator=generator(self._seed, "validation", index, part))
            for part in range(PARTS)
        ]
        text = {**self._texts(self._pictures.samples[index].caption), **self._pictures.sizes[index]}
        return MicroBatch(
            latents=latents.expand(PARTS, *latents.shape),
            noise=torch.stack(noise),
            timesteps=(2 * torch.arange(PARTS) + 1) * self._timesteps // (2 * PARTS),
            text={key: value.expand(PARTS, *value.shape) for key, value in text.items()},
            weights=torch.ones(PARTS),
        )


@contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    training = [each for each in module.modules() if each.training]
    try:
        for each in training:
            each.training = False
        yield
    finally:
        for each in training:
            each.training = True
