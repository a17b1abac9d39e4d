"""The loss of a micro-batch as one module, so that accelerate wraps denoiser and text encoders together."""

from torch import Tensor, nn

from lora_diffusion.families.base import Components, Family
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
        """Return the loss of each sample [n] in fp32, times its weight."""
        components, goal = self._components, self._components.objective
        device = components.device
        latents, noise, t = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        text = {key: value.to(device) for key, value in batch.text.items()}
        if self._train_text:
            text = dict(self._family.encode_tokens(components, text))
        answer = self._family.predict(components, goal.noised(latents, noise, t), t, text)
        losses = (answer - goal.target(latents, noise, t)).square().mean(dim=(1, 2, 3))
        if self._plan.min_snr_gamma is not None:
            losses = losses * goal.min_snr_weight(t, self._plan.min_snr_gamma)
        return losses * batch.weights.to(device)
