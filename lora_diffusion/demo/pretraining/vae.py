"""Training of the VAE on crops, and the standardisation of its latents."""

import logging
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lora_diffusion.demo.pretraining.budget import Budget
from lora_diffusion.demo.pretraining.data import to_floats
from lora_diffusion.demo.pretraining.nets import new_vae
from lora_diffusion.demo.pretraining.weights import Rates, Weights
from lora_diffusion.seeds import generator

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["encode", "fold_standardisation", "psnr", "train_vae"]

CROP = 64  # pixels; a quarter of a picture, which is enough for edges and textures
BATCH = 32
RATES = Rates(adamw=1.5e-3, muon=7e-3, beta2=0.99, weight_decay=0.0, mean=0.995)
KL_WEIGHT = 5e-4  # keeps the latents bounded; no adversarial loss, icons stay sharp without
ENCODED_AT_ONCE = 32

_log = logging.getLogger("lora_diffusion.demo.pretrain")


def train_vae(pictures: Tensor, *, budget: Budget, device: torch.device, seed: int) -> "AutoencoderKL":
    """Train a VAE on uint8 pictures [n, 3, 128, 128] until the budget is spent. Returned in bfloat16, standardised."""
    torch.manual_seed(seed)  # diffusers draws initial weights and posterior samples from torch's own generator
    vae = new_vae().to(device, torch.bfloat16).to(memory_format=torch.channels_last).train()
    weights = Weights(vae.parameters(), RATES)
    step = 0
    while budget.progress < 1:
        loss, error = _loss(vae, _crops(pictures, device, seed=seed, step=step))
        loss.backward()  # type: ignore[no-untyped-call]
        weights.step(budget.rate(step, warmup=40, hold=0.0))
        step += 1
        if step % 50 == 0:
            _log.info("vae: %3.0f %%, step %d, PSNR of crops %.1f dB", 100 * budget.progress, step, _decibels(error))
    weights.load_mean()
    return _standardised(vae.eval(), pictures)


def encode(vae: "AutoencoderKL", pictures: Tensor) -> Tensor:
    """Return the mean latents [n, 8, 16, 16] of uint8 pictures as float16."""
    with torch.inference_mode():
        parts = [
            vae.encode(to_floats(part, vae.device)).latent_dist.mean.half()
            for part in torch.split(pictures, ENCODED_AT_ONCE)
        ]
    return torch.cat(parts).clone()


def psnr(vae: "AutoencoderKL", pictures: Tensor) -> float:
    """Return how well uint8 pictures survive encoding and decoding, in decibels."""
    with torch.inference_mode():
        pixels = to_floats(pictures, vae.device)
        seen = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    return _decibels(functional.mse_loss(seen.float(), pixels.float()))


@torch.no_grad()
def fold_standardisation(vae: "AutoencoderKL", mean: Tensor, std: Tensor) -> None:
    """Change a VAE's two 1 x 1 convolutions so that each latent channel has mean 0 and deviation 1.

    `mean` and `std` [channels] are those of its latents until now. What it decodes stays the same.
    """
    channels = mean.numel()
    into, back = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] /= std.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / std
    into.bias[channels:] -= 2 * std.log()  # the other half are the log variances
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= std.view(1, -1, 1, 1)


def _standardised(vae: "AutoencoderKL", pictures: Tensor) -> "AutoencoderKL":
    latents = encode(vae, pictures[: 20 * ENCODED_AT_ONCE]).float()
    exact = new_vae().to(vae.device).eval()
    exact.load_state_dict(vae.state_dict())
    fold_standardisation(exact, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    folded: AutoencoderKL = exact.to(torch.bfloat16).to(memory_format=torch.channels_last)
    return folded


def _crops(pictures: Tensor, device: torch.device, *, seed: int, step: int) -> Tensor:
    draw = generator(seed, step, "crops")
    index = torch.randint(len(pictures), (BATCH,), generator=draw)
    room = pictures.shape[-1] - CROP + 1
    top, left, flip = (int(torch.randint(high, (1,), generator=draw)) for high in (room, room, 2))
    crops = pictures[index, :, top : top + CROP, left : left + CROP]
    return to_floats(crops.flip(-1) if flip else crops, device)


def _loss(vae: "AutoencoderKL", pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and the mean squared error in it."""
    posterior = vae.encode(pixels).latent_dist
    off = vae.decode(posterior.sample()).sample.float() - pixels.float()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    edges = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    error = off.square().mean()
    return off.abs().mean() + error + 0.5 * edges + KL_WEIGHT * divergence, error.detach()


def _decibels(squared_error: Tensor) -> float:
    return 10 * math.log10(4 / max(float(squared_error), 1e-12))  # pixels span 2, from -1 to 1
