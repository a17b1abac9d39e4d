"""Train the embedded base model again from nothing: `python -m lora_diffusion.demo.pretrain --out DIR`.

Scenes of icons are rendered with captions; a tokenizer and a VAE are trained on them, then a UNet with its text
encoder. The result is an ordinary StableDiffusionPipeline folder in fp16. Needs the icon font; a GPU is used if there
is one.
"""

import argparse
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from datasets_tools.storage import replacing_folder
from lora_diffusion.demo.glyphs import find_font
from lora_diffusion.demo.pretraining.budget import Budget
from lora_diffusion.demo.pretraining.data import captioned, printed
from lora_diffusion.demo.pretraining.denoiser import Denoiser, train_denoiser
from lora_diffusion.demo.pretraining.nets import new_scheduler
from lora_diffusion.demo.pretraining.tokens import Vocabulary, learn, write_pair
from lora_diffusion.demo.pretraining.vae import encode, psnr, train_vae
from lora_diffusion.errors import LoraDiffusionError, RunExists, UsageError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

__all__ = ["Recipe", "pretrain"]

VAE_SHARE = 0.1  # of the time: the shipped VAE took 425 s of 4 445 s and codes new scenes at 26.5 dB

_log = logging.getLogger("lora_diffusion.demo.pretrain")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything. The defaults are close to what made the shipped weights, on two CPU cores."""

    minutes: float = 75.0
    scenes: int = 14_400
    batch: int = 64
    seed: int = 0


def pretrain(out: Path, recipe: Recipe, *, device: torch.device) -> None:
    """Train a base model within the recipe's time, rendering included, and write it to a new folder.

    Raises RunExists when the folder exists and UsageError when the icon font is not installed.
    """
    _check(out, recipe)
    began, seconds = time.perf_counter(), recipe.minutes * 60
    prints = printed(max(1, recipe.scenes // 6), seed=recipe.seed)
    scenes = captioned(recipe.scenes, seed=recipe.seed)
    vocabulary = learn(scenes.captions)
    _log.info("rendered %d scenes in %.0f s", recipe.scenes, time.perf_counter() - began)
    vae = train_vae(prints, budget=Budget(VAE_SHARE * seconds), device=device, seed=recipe.seed)
    _log.info("vae: PSNR %.1f dB", psnr(vae, scenes.pictures[:32]))
    denoiser = train_denoiser(
        encode(vae, scenes.pictures),
        list(scenes.captions),
        vocabulary.tokenizer(),
        batch=recipe.batch,
        budget=Budget(max(1.0, seconds - (time.perf_counter() - began))),
        device=device,
        seed=recipe.seed,
    )
    _write(out, vae, denoiser, vocabulary)
    _log.info("wrote %s after %.0f s", out, time.perf_counter() - began)


def _check(out: Path, recipe: Recipe) -> None:
    if out.exists():
        raise RunExists(f"{out} exists", hint="name a folder that does not exist yet")
    for name, value in (("minutes", recipe.minutes), ("scenes", recipe.scenes), ("batch", recipe.batch)):
        if value <= 0:
            raise UsageError(f"{name} is {value}", hint=f"give {name} above 0")
    find_font()


def _write(out: Path, vae: "AutoencoderKL", denoiser: Denoiser, vocabulary: Vocabulary) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=vocabulary.tokenizer(),
        unet=denoiser.unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    with replacing_folder(out) as folder:
        pipeline.save_pretrained(folder, safe_serialization=True)
        write_pair(vocabulary, folder / "tokenizer")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    recipe = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m lora_diffusion.demo.pretrain", description="Train the embedded base model from nothing."
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for the diffusers pipeline")
    parser.add_argument("--minutes", type=float, default=recipe.minutes, help="time for everything (%(default)s)")
    parser.add_argument("--scenes", type=int, default=recipe.scenes, help="pictures to render (%(default)s)")
    parser.add_argument("--batch", type=int, default=recipe.batch, help="samples a step of the denoiser (%(default)s)")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="for pictures and weights (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    from diffusers.utils.logging import set_verbosity_error

    given = _arguments(argv)
    set_verbosity_error()  # it advises against casting to bfloat16, which is what is meant here
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(minutes=given.minutes, scenes=given.scenes, batch=given.batch, seed=given.seed)
    try:
        pretrain(given.out, recipe, device=device)
    except LoraDiffusionError as error:
        _log.error("%s; %s", error, error.hint)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
