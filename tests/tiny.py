"""Every family at toy size: the real classes, saved as real folders. Nothing is downloaded."""

import random
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from lora_diffusion.embedded import BASE
from lora_diffusion.settings import from_toml
from lora_diffusion.training.plan import TrainPlan

RESOLUTION = 64
WORDS = ("apple", "rocket", "house", "star", "cat", "key", "fish", "drum", "pear", "bell", "moon", "tree")


def sd1(folder: Path, *, prediction_type: str = "epsilon", width: int = 32, seed: int = 0) -> Path:
    """Save a Stable Diffusion 1 of 0.3 M parameters for pictures of 64 x 64."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(BASE / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=RESOLUTION,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


FAMILIES = {"sd1": sd1}
"""Family name -> what saves one at toy size. The contract tests fail for a family that is not here."""


def pictures(folder: Path, count: int = 6, *, sizes: tuple[tuple[int, int], ...] = ((64, 64), (96, 64))) -> Path:
    """Draw captioned pictures of several shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(count)
    for number in range(count):
        size = sizes[number % len(sizes)]
        image = Image.new("RGB", size, tuple(draw.randrange(256) for _ in range(3)))
        box = (draw.randrange(20), draw.randrange(20), size[0] - draw.randrange(20), size[1] - draw.randrange(20))
        ImageDraw.Draw(image).ellipse(box, fill=tuple(draw.randrange(256) for _ in range(3)))
        image.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"a {WORDS[number % len(WORDS)]} icon")
    return folder


def plan(base: Path | str, folder: Path, out: Path, *overrides: str) -> TrainPlan:
    """Return a plan of six fp32 steps on the CPU."""
    return from_toml(
        TrainPlan,
        None,
        [
            f"base.path={base}",
            f"data.folder={folder}",
            f"run.out={out}",
            "adapter.rank=4",
            "adapter.targets=attention,text",
            "optim.lr=1e-3",
            "run.steps=6",
            "run.batch_size=4",
            "run.precision=no",
            "run.device=cpu",
            "run.tensorboard=false",
            "run.snapshot_every=2",
            *overrides,
        ],
    )
