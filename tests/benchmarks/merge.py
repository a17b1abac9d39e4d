"""Merging an adapter into a checkpoint of Stable Diffusion 1.5's shape, beside a plain copy of the same file.

python -m tests.benchmarks.merge                    fp16 to fp16, bf16, fp32 and scaled fp8; attention, rank 16
python -m tests.benchmarks.merge --share 0.5        half the channels, for a quick look
python -m tests.benchmarks.merge --rounds 1 --to fp16

Copy and merges take turns, each in a process of its own, from a source in the page cache to a new file, until its bytes
are on the disk. A copy reads and writes. A merge also folds, makes the SHA-256 of the file, and has the disk read each
byte back. Weights are random: a merge takes the same time for any.

With reading and writing limited (blkio.throttle.write_bps_device and read_bps_device of a control group) to 250, 500,
700 and 1000 MB/s a merge took 8.6, 5.4, 3.5 and 2.5 s, a durable copy 10.5, 5.5, 5.9 and 5.1 s. Without a limit the
copy took 1.4 to 5 s: a system that gave its memory back makes the pages of its cache anew.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from datasets_tools.storage import sha256_file
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter, write_adapter
from tests.benchmarks.machine import describe, spread
from tests.memory import peak

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

    write_safe(folder / "base.safetensors", plan, tensor_of, {"format": "pt"}, hashes=())
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


def child(base: str, style: str, out: str, to: str) -> None:
    """Copy or merge once and print seconds, those of the processor, peak memory above the imports, and the loss."""
    from lora_diffusion.files.adapter import read_adapter
    from lora_diffusion.merging import merge

    adapter = read_adapter(style)
    before, used, began = peak(), os.times(), time.perf_counter()
    lost = 0.0
    if to == "copy":
        copied(Path(base), Path(out))
    else:
        lost = merge(base, [(adapter, 0.8)], out, precision=to).report.total
    took, after = time.perf_counter() - began, os.times()
    cpu = after.user + after.system - used.user - used.system
    print(json.dumps({"seconds": took, "cpu": cpu, "peak": peak() - before, "lost": lost}))


def copied(source: Path, target: Path) -> None:
    """Make a plain copy that ends when the bytes are on the disk."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--to", nargs="+", default=["fp16", "bf16", "fp32", "fp8"])
    parser.add_argument("--child", nargs=4)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base, style = make(folder, asked.share)
        size = base.stat().st_size / 1e6
        print(f"{describe(torch.device('cpu'))}; checkpoint of {size:.0f} MB in fp16; {asked.rounds} rounds in turns\n")
        found: dict[str, list[dict[str, float]]] = {to: [] for to in ("copy", *asked.to)}
        for _ in range(asked.rounds):
            for to, runs in found.items():
                out = folder / f"out-{to}.safetensors"
                sha256_file(base)  # into the cache of the system, where a source that was just looked at lies
                command = [sys.executable, "-m", "tests.benchmarks.merge", "--child", base, style, out, to]
                done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
                runs.append({**json.loads(done.stdout), "written": out.stat().st_size / 1e6})
                out.unlink()
        show(found, size)


def show(found: dict[str, list[dict[str, float]]], size: float) -> None:
    """Print medians and smallest times; the ratio of medians to those of the copy."""
    copy = statistics.median(run["seconds"] for run in found["copy"])
    print(
        "| | seconds, median / min | MB/s | of a copy | of the processor | MB written | memory above the start | lost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for to, runs in found.items():
        seconds, cpu = [run["seconds"] for run in runs], [run["cpu"] for run in runs]
        most = max(run["peak"] for run in runs) / 1e6
        median, written = statistics.median(seconds), runs[0]["written"]
        cells = [spread(seconds), f"{written / median:.0f}", f"{median / copy:.2f}", spread(cpu), f"{written:.0f}"]
        cells += [f"{most:.0f} MB ({most / size:.2f} of the source)", f"{runs[0]['lost']:.3g}"]
        print(f"| {'durable copy' if to == 'copy' else f'merge to {to}'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
