"""Joint training of the UNet and the text encoder on latents that were encoded once."""

import logging
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_diffusion.demo.pretraining.budget import Budget
from lora_diffusion.demo.pretraining.nets import new_scheduler, new_text_encoder, new_unet
from lora_diffusion.demo.pretraining.weights import Rates, Weights
from lora_diffusion.families.attention import use_attention
from lora_diffusion.objectives import Objective, objective
from lora_diffusion.seeds import generator

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

__all__ = ["Denoiser", "train_denoiser"]

RATES = Rates(adamw=1e-3, muon=1e-2, beta2=0.98, weight_decay=0.01, mean=0.9985)
CAPTION_DROPOUT = 0.1  # guidance needs the empty caption

_log = logging.getLogger("lora_diffusion.demo.pretrain")


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    unet: "UNet2DConditionModel"
    text_encoder: "CLIPTextModel"


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Latents [n, 8, 16, 16] with token numbers [n, 32]; `empty` [32] is the caption without words."""

    latents: Tensor
    tokens: Tensor
    empty: Tensor

    def draw(self, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(self.latents), (n,), generator=draw)
        dropped = torch.rand(n, 1, generator=draw) < CAPTION_DROPOUT
        return self.latents[index].float(), torch.where(dropped, self.empty, self.tokens[index])


def train_denoiser(
    latents: Tensor,
    captions: list[str],
    tokenizer: "CLIPTokenizer",
    *,
    batch: int,
    budget: Budget,
    device: torch.device,
    seed: int,
) -> Denoiser:
    """Train on latents [n, 8, 16, 16] until the budget is spent; return the running mean of the weights, bfloat16."""
    torch.manual_seed(seed)  # diffusers and transformers draw initial weights from torch's own generator
    *tokens, empty = _tokenized(tokenizer, [*captions, ""])
    samples = _Samples(latents=latents.cpu(), tokens=torch.stack(tokens), empty=empty)
    unet = new_unet().to(device, torch.bfloat16).to(memory_format=torch.channels_last).train()
    text = new_text_encoder(tokenizer).to(device, torch.bfloat16).train()
    use_attention(unet, {"text_encoder": text}, "auto")
    goal = objective("v_prediction", new_scheduler().alphas_cumprod)
    weights = Weights(chain(unet.parameters(), text.parameters()), RATES, adamw_only=_tables_and_ends(unet, text))
    step = 0
    while budget.progress < 1:
        loss = _loss(unet, text, goal, samples, batch, generator(seed, step, "denoiser"))
        loss.backward()  # type: ignore[no-untyped-call]
        weights.step(budget.rate(step, warmup=60, hold=0.2))
        step += 1
        if step % 50 == 0:
            _log.info("denoiser: %3.0f %%, step %d, loss %.4f", 100 * budget.progress, step, float(loss.detach()))
    weights.load_mean()
    return Denoiser(unet=unet.eval(), text_encoder=text.eval())


def _loss(
    unet: nn.Module, text: nn.Module, goal: Objective, samples: _Samples, batch: int, draw: torch.Generator
) -> Tensor:
    device = next(unet.parameters()).device
    latents, tokens = (part.to(device) for part in samples.draw(batch, draw))
    noise = torch.randn(latents.shape, generator=draw).to(device)
    t = _timesteps(batch, goal.timesteps, draw).to(device)
    noised = goal.noised(latents, noise, t).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    answer = unet(noised, t, text(tokens).last_hidden_state).sample.float()
    error: Tensor = (answer - goal.target(latents, noise, t)).square().mean()
    return error


def _timesteps(n: int, steps: int, draw: torch.Generator) -> Tensor:
    """Return one timestep from each of n equal parts of the schedule: every batch sees all levels of noise."""
    places = (torch.rand(n, generator=draw) + torch.arange(n)) / n
    return (places * steps).long().clamp(max=steps - 1)


def _tokenized(tokenizer: "CLIPTokenizer", captions: list[str]) -> Tensor:
    tokens: Tensor = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return tokens


def _tables_and_ends(unet: nn.Module, text: nn.Module) -> list[nn.Parameter]:
    """Return what orthogonal updates do not suit: embeddings, and the first and last convolution."""
    embeddings = [p for name, p in text.named_parameters() if "embedding" in name]
    ends = [p for name, p in unet.named_parameters() if name.startswith(("conv_in.", "conv_out."))]
    return [*embeddings, *ends]
