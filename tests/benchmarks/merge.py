"""Merging an adapter into a checkpoint of Stable Diffusion 1.5's shape, beside a plain copy of the same file.

python -m tests.benchmarks.merge                fp16 to fp16, bf16, fp32 and scaled fp8; an attention adapter of rank 16
python -m tests.benchmarks.merge --share 0.5    half the channels, for a quick look

Weights are random: a merge takes the same time for any. Every figure is a run in a process of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter, write_adapter
from tests.benchmarks.machine import describe, peak_gib

_CONFIGS = Path(__file__).parents[2] / "lora_diffusion" / "families" / "configs" / "sd1"
_RANK = 16


def make(folder: Path, share: float) -> tuple[Path, Path]:
    """Write a checkpoint in the original layout, fp16, and an adapter of every attention layer; return both paths."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from lora_diffusion.families.layout import layout_of_configs
    from lora_diffusion.families.names import canonical
    from lora_diffusion.files.writing import Planned, write_safe

    configs = {name: json.loads((_CONFIGS / f"{name}.json").read_text()) for name in ("unet", "vae", "text_encoder")}
    configs["unet"]["block_out_channels"] = [int(each * share) for each in configs["unet"]["block_out_channels"]]
    with torch.device("meta"):
        modules = {
            "denoiser": UNet2DConditionModel.from_config(configs["unet"]),
            "vae": AutoencoderKL.from_config(configs["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])),
        }
    layout = layout_of_configs(configs["unet"], configs["vae"])
    tensors = {
        canonical(component, key): each.shape
        for component, module in modules.items()
        for key, each in module.state_dict().items()
        if not key.endswith("position_ids")
    }
    plan = [
        Planned(name=str(layout.original(key)), dtype=torch.float16, shape=tuple(shape))
        for key, shape in tensors.items()
    ]
    noise = torch.randn(1 << 22).mul_(0.03).half()
    shapes = {each.name: each.shape for each in plan}

    def tensor_of(name: str) -> torch.Tensor:
        count = torch.Size(shapes[name]).numel()
        return noise.repeat(count // noise.numel() + 1)[:count].reshape(shapes[name])

    write_safe(folder / "base.safetensors", plan, tensor_of, {"format": "pt"})
    attention = {
        key.removesuffix(".weight"): shape
        for key, shape in tensors.items()
        if key.endswith((".to_q.weight", ".to_k.weight", ".to_v.weight", ".to_out.0.weight")) and "denoiser" in key
    }
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: Weights(
            down=torch.randn(_RANK, shape[1], generator=draw) * 0.02,
            up=torch.randn(shape[0], _RANK, generator=draw) * 0.02,
            alpha=float(_RANK),
        )
        for name, shape in attention.items()
    }
    write_adapter(Adapter(name="style", family="sd1", modules=weights), folder / "style.safetensors", dtype="fp16")
    return folder / "base.safetensors", folder / "style.safetensors"


def child(base: str, style: str, out: str, precision: str) -> None:
    """Merge once and print seconds, peak memory above the imports, and the loss."""
    from lora_diffusion.files.adapter import read_adapter
    from lora_diffusion.merging import merge

    adapter = read_adapter(style)
    before = peak_gib(torch.device("cpu"))
    began = time.perf_counter()
    done = merge(base, [(adapter, 0.8)], out, precision=precision or None)
    took = time.perf_counter() - began
    peak = peak_gib(torch.device("cpu")) - before
    print(json.dumps({"seconds": took, "peak_gib": peak, "lost": done.report.total}))


def copied(source: Path, target: Path) -> float:
    """Return the seconds of a plain copy that ends when the bytes are on the disk."""
    began = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--child", nargs=4)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base, style = make(folder, asked.share)
        size = base.stat().st_size / 1e6
        print(f"{describe(torch.device('cpu'))}; checkpoint of {size:.0f} MB in fp16\n")
        print("| | seconds | MB/s of the source | memory above the start | share of the delta lost |")
        print("|---|---|---|---|---|")
        for number in range(2):  # the first also brings the file into the page cache
            took = copied(base, folder / "copy.safetensors")
            print(f"| plain copy, {'again' if number else 'first'} | {took:.1f} | {size / took:.0f} | | |")
        for precision in ("", "bf16", "fp32", "fp8"):
            out = folder / f"out-{precision}.safetensors"
            command = [sys.executable, "-m", "tests.benchmarks.merge", "--child", str(base), str(style), str(out)]
            done = subprocess.run([*command, precision], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            cells = f"{found['seconds']:.1f} | {size / found['seconds']:.0f} | {found['peak_gib'] * 1000:.0f} MiB"
            print(f"| merge to {precision or 'fp16'} | {cells} | {found['lost']:.3g} |")
            out.unlink()


if __name__ == "__main__":
    main()
