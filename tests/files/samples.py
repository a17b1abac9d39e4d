"""Adapters with everything that goes wrong in other programs: mixed ranks, mixed alphas, kernels, two components."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter

BASE = Path(__file__).parents[2] / "lora_diffusion" / "demo" / "base"
FIXTURES = Path(__file__).parents[2].parent / "shared" / "fixtures"


@cache
def pipeline_folder() -> Path:
    """A diffusers folder with three levels and one layer per block: not the size of Stable Diffusion 1."""
    folder = Path(tempfile.mkdtemp(prefix="tiny-pipeline-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_pipeline().save_pretrained(folder)
    return folder


def tiny_pipeline(dtype=torch.float32, **unet):
    """Real classes at a few channels, other weights for each seed of torch that the caller set."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(11)
    shape = {
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "sample_size": 8,
    }
    text = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=1569,
        max_position_embeddings=32,
        bos_token_id=1567,
        eos_token_id=1568,
        pad_token_id=1568,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        layers_per_block=1,
        latent_channels=4,
    )
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel(**{**shape, **unet}),
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer.from_pretrained(BASE / "tokenizer"),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype)


_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
_KERNELS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "conv_in", "conv_out", "linear_1")
_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def sample_adapter(
    pipeline=None, *, kernels=True, text=True, alphas=(4.0, 1.0, 3.0), ranks=(4, 2, 3), seed=0, name="sample"
):
    """Random tensors for every layer of a pipeline that an adapter may reach."""
    pipeline = pipeline or tiny_pipeline()
    ends = _TARGETS + (_KERNELS if kernels else ())
    found = [(f"denoiser.{path}", each) for path, each in pipeline.unet.named_modules() if path.endswith(ends)]
    if text:
        inside = pipeline.text_encoder.named_modules()
        paths = [(path.removeprefix("text_model."), each) for path, each in inside if path.endswith(_TEXT)]
        found += [(f"text_encoder.text_model.{path}", each) for path, each in paths]
    draw = torch.Generator().manual_seed(seed)
    modules = {
        path: _weights(each.weight.shape, ranks[at % len(ranks)], alphas[at % len(alphas)], draw)
        for at, (path, each) in enumerate((path, each) for path, each in found if hasattr(each, "weight"))
    }
    return Adapter(name=name, family="sd1", modules=modules, metadata={"lora_diffusion.family": "sd1"})


def _weights(shape, rank, alpha, draw):
    down = torch.randn(rank, *shape[1:], generator=draw) * 0.3
    up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=draw) * 0.3
    return Weights(down=down, up=up, alpha=alpha)


def dense(weights, weight=1.0):
    """The full delta in float64, the slow and obvious way."""
    product = weights.up.double().flatten(1) @ weights.down.double().flatten(1)
    return weight * weights.alpha / weights.rank * product


def save(tensors, path, metadata=None):
    """Write a file as another program would: with the library, without our hashes."""
    from safetensors.torch import save_file

    save_file({key: each.clone().contiguous() for key, each in tensors.items()}, path, metadata or None)
