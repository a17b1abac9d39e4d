"""The real Stable Diffusion 1.5 architecture with random weights, as a diffusers folder. Nothing is downloaded."""

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_diffusion.embedded import BASE
from lora_diffusion.seeds import generator

CONFIGS = BASE.parent.parent / "families" / "configs" / "sd1"
BLOCK = 1 << 26  # more than the largest tensor, the 38 million token embeddings
POSITIONS = 77


def write_base(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write 2.1 GB of seeded weights, configs and a tokenizer; return the folder. The same seed gives the same bytes.

    Weights are spread like torch's own initialisation of linear layers and convolutions, so that the output of the
    denoiser is small and the first losses lie at 1.1 to 1.2.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configs = {name: json.loads((CONFIGS / f"{name}.json").read_text()) for name in ("unet", "vae", "text_encoder")}
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(configs["unet"])
        vae = AutoencoderKL.from_config(configs["vae"])
        text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
    normal = torch.randn(BLOCK, generator=generator(seed, "weights")).to(dtype)
    for name, module, file in (
        ("unet", unet, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
        ("text_encoder", text, "model"),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(configs[name]))
        save_file(_weights(module, normal, dtype), folder / name / f"{file}.safetensors", {"format": "pt"})
    (folder / "scheduler").mkdir()
    scheduler = {**json.loads((CONFIGS / "scheduler.json").read_text()), "clip_sample": False}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    _write_index(folder)
    write_tokenizer(folder / "tokenizer", configs["text_encoder"]["vocab_size"])
    return folder


def _weights(module: nn.Module, normal: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Draw every tensor of a module. All read one block of normal numbers, each from a place of its own."""
    found = {}
    for place, (name, value) in enumerate(module.state_dict().items()):
        if value.ndim < 2:
            found[name] = (torch.zeros if name.endswith("bias") else torch.ones)(value.shape, dtype=dtype)
            continue
        begin = place * 999_983 % (len(normal) - value.numel())
        std = 0.02 if "embedding" in name else 1 / math.sqrt(3 * value[0].numel())
        found[name] = normal[begin : begin + value.numel()].view(value.shape) * std
    return found


def _write_index(folder: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path, size: int) -> None:
    """Write the tokenizer of the embedded base with entries nobody types in front of its two special tokens."""
    folder.mkdir(parents=True)
    content = json.loads((BASE / "tokenizer" / "tokenizer.json").read_text())
    special = [token["content"] for token in content["added_tokens"]]
    words = [word for word in content["model"]["vocab"] if word not in special]
    words += [f"<unused-{number}>" for number in range(size - len(words) - len(special))]
    vocabulary = {word: place for place, word in enumerate([*words, *special])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text((BASE / "tokenizer" / "merges.txt").read_text())
    config = json.loads((BASE / "tokenizer" / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": POSITIONS}))


if __name__ == "__main__":
    print(write_base(Path(sys.argv[1])))
