"""Every family at toy size: the real classes, saved as real folders. Nothing is downloaded."""

import json
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
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    unet = UNet2DConditionModel(**_UNET, cross_attention_dim=width)
    vae = _vae()
    text = CLIPTextModel(_text(tokenizer, width))
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        **_NOTHING_ELSE,
    ).save_pretrained(folder)
    return folder


def sd2(folder: Path, *, prediction_type: str = "v_prediction", width: int = 32, seed: int = 0) -> Path:
    """Save a Stable Diffusion 2 of 0.3 M parameters: linear projections, padding as OpenCLIP does, gelu."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer(pad_token="!")
    heads = {"attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True}
    unet = UNet2DConditionModel(**{**_UNET, **heads}, cross_attention_dim=width)
    vae = _vae()
    text = CLIPTextModel(_text(tokenizer, width, hidden_act="gelu"))
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        **_NOTHING_ELSE,
    ).save_pretrained(folder)
    return folder


def sdxl(folder: Path, *, prediction_type: str = "epsilon", width: int = 16, seed: int = 0) -> Path:
    """Save a Stable Diffusion XL of 0.3 M parameters with the real number of blocks and layers of the UNet."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = _tokenizer(), _tokenizer(pad_token="!")
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=3 * width,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 2 * width,
        norm_num_groups=4,
    )
    vae = _vae(scaling_factor=0.13025)
    second = _text(tokenizer, 2 * width, hidden_act="gelu", num_hidden_layers=3, projection_dim=2 * width)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_text(tokenizer, width, num_hidden_layers=12)),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


_UNET = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
_NOTHING_ELSE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _tokenizer(**options):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(BASE / "tokenizer", **options)


def _vae(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=RESOLUTION,
        **options,
    )


def _text(tokenizer, width, **options):
    from transformers import CLIPTextConfig

    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return CLIPTextConfig(**{**shape, **options})


def _scheduler(prediction_type):
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


FAMILIES = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl}
"""Family name -> what saves one at toy size. The contract tests fail for a family that is not here."""


def single_file(folder: Path, path: Path, *, extra: dict | None = None, metadata: dict | None = None) -> Path:
    """Write a folder as one file in the original layout, with configs and tokenizer in its metadata unless given."""
    from safetensors.torch import load_file, save_file

    from lora_diffusion.families import detect
    from lora_diffusion.families.layout import from_folder_key
    from lora_diffusion.families.single_file import CONFIGS_KEY, TOKENIZER_KEY

    family = detect(folder)
    configs = family.configs(folder)
    layout, ours = family.layout(configs), {}
    for component, name in family.folders.items():
        for file in sorted((folder / name).glob("*.safetensors")):
            ours |= {from_folder_key(component, key): each for key, each in load_file(file).items()}
    names = dict.fromkeys(layout.original(key) for key in ours)
    tensors = {name: layout.joined(name, [ours[key] for key in layout.keys(name)]) for name in names}
    texts = {file.name: file.read_text("utf-8") for file in sorted((folder / "tokenizer").iterdir())}
    own = {CONFIGS_KEY: json.dumps(configs), TOKENIZER_KEY: json.dumps(texts)}
    stored = {key: each.clone().contiguous() for key, each in {**tensors, **(extra or {})}.items()}
    save_file(stored, path, own if metadata is None else metadata)
    return path


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
