"""Our blends beside every combination type of PEFT's add_weighted_adapter, on the same two files in one run.

python -m tests.benchmarks.blend                 prints a Markdown table: error, seconds, numbers of the result
python -m tests.benchmarks.blend --ranks 8 16    ranks that differ, which some of PEFT's types refuse

The error is that of the result's deltas against the weighted sum of the inputs' deltas, all in float64: relative
Frobenius norm over all modules. Methods that are lossy by design (ties, dare, magnitude) are not meant to be the sum;
their figure says how far they go. Seconds include reading both files. The model is a stack of Linear layers of the
shapes of Stable Diffusion 1.5's attention, because PEFT needs one to hold its adapters.
"""

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from lora_diffusion.generation.blend import blend
from tests.benchmarks.machine import describe

_SHAPES = {f"layer{at}": shape for at, shape in enumerate([(320, 320), (320, 768), (640, 640), (640, 768)] * 3)}
_SHAPES |= {f"wide{at}": shape for at, shape in enumerate([(1280, 1280), (1280, 768)] * 2)}
_WEIGHTS = (0.7, -0.4)
_DENSITY = 0.5
_PEFT = (
    "cat", "linear", "svd", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
_PREFIX = "denoiser.mid_block.attentions.0.transformer_blocks."
Deltas = Mapping[str, Tensor]


def canonical(name: str) -> str:
    """Return a place in a UNet for a layer of the stack: files need one."""
    return f"{_PREFIX}{list(_SHAPES).index(name)}.attn1.to_q"


def adapter(seed: int, rank: int) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    modules = {
        canonical(name): Weights(
            down=torch.randn(rank, inside, generator=draw) / math.sqrt(inside),
            up=torch.randn(out, rank, generator=draw) / math.sqrt(rank),
            alpha=rank / 2,
        )
        for name, (out, inside) in _SHAPES.items()
    }
    return Adapter(name=f"style{seed}", family="sd1", modules=modules)


def dense(weights: Weights) -> Tensor:
    return weights.scale * (weights.up.double() @ weights.down.double())


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, (out, inside) in _SHAPES.items():
            setattr(self, name, nn.Linear(inside, out, bias=False))


def peft_model(paths: list[Path]) -> object:
    """Return a PEFT model that holds the adapters of our files, with their ranks and alphas."""
    from peft import LoraConfig, get_peft_model

    read = [read_adapter(path) for path in paths]
    configs = [LoraConfig(r=each.ranks[0], lora_alpha=each.alphas[0], target_modules=list(_SHAPES)) for each in read]
    model = get_peft_model(Stack(), configs[0], adapter_name="0")
    model.add_adapter("1", configs[1])
    for number, each in enumerate(read):
        for name in _SHAPES:
            layer, weights = model.base_model.model.get_submodule(name), each.modules[canonical(name)]
            layer.lora_A[str(number)].weight.data.copy_(weights.down)
            layer.lora_B[str(number)].weight.data.copy_(weights.up)
    return model


def by_peft(model: object, kind: str, rank: int) -> tuple[Deltas, int]:
    """Combine and return the deltas of the result and how many numbers it has."""
    more: dict[str, object] = {} if kind in ("cat", "linear", "svd") else {"density": _DENSITY}
    if kind.endswith("svd"):
        more["svd_rank"] = rank
    model.add_weighted_adapter(["0", "1"], list(_WEIGHTS), "result", combination_type=kind, **more)
    deltas, numbers = {}, 0
    for name in _SHAPES:
        layer = model.base_model.model.get_submodule(name)
        down, up = layer.lora_A["result"].weight.data, layer.lora_B["result"].weight.data
        deltas[canonical(name)] = layer.scaling["result"] * (up.double() @ down.double())
        numbers += down.numel() + up.numel()
    return deltas, numbers


def by_us(paths: list[Path], **how: object) -> tuple[Deltas, int]:
    done = blend([(read_adapter(path), by) for path, by in zip(paths, _WEIGHTS, strict=True)], name="result", **how)
    modules = done.adapter.modules
    return {name: dense(each) for name, each in modules.items()}, sum(
        each.up.numel() + each.down.numel() for each in modules.values()
    )


def row(label: str, work: Callable[[], tuple[Deltas, int]], meant: Deltas) -> str:
    began = time.perf_counter()
    try:
        found, numbers = work()
    except (ValueError, RuntimeError) as error:
        return f"| {label} | refused | | | {str(error).splitlines()[0][:70]} |"
    took = time.perf_counter() - began
    error = math.hypot(*(float((found[name] - each).norm()) for name, each in meant.items()))
    size = math.hypot(*(float(each.norm()) for each in meant.values()))
    strength = math.hypot(*(float(each.norm()) for each in found.values())) / size
    return f"| {label} | {error / size:.2g} | {strength:.2f} | {took:.2f} | {numbers / 1e6:.2f} M |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs=2, default=(16, 16))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    import peft

    rank = sum(asked.ranks)
    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary, f"{number}.safetensors") for number in (0, 1)]
        for number, path in enumerate(paths):
            write_adapter(adapter(number, asked.ranks[number]), path, dtype="fp32")
        read = [read_adapter(path).modules for path in paths]
        meant = {name: sum(by * dense(each[name]) for each, by in zip(read, _WEIGHTS, strict=True)) for name in read[0]}
        print(f"{describe(torch.device('cpu'))}, peft {peft.__version__}; {len(_SHAPES)} layers, ranks {asked.ranks},")
        print(f"weights {_WEIGHTS}, density {_DENSITY}; results of rank {rank} unless said\n")
        print("| method | error against the sum | strength (1 = as meant) | seconds | numbers |")
        print("|---|---|---|---|---|")
        for kind in _PEFT:
            print(row(f"peft {kind}", lambda kind=kind: by_peft(peft_model(paths), kind, rank), meant), flush=True)
        ours = {
            "concat": {"method": "concat"},
            "svd": {"method": "svd"},
            f"svd at rank {rank // 2}": {"method": "svd", "rank": rank // 2},
            "svd keeping 0.9": {"method": "svd", "keep": 0.9},
            **{name: {"method": name, "density": _DENSITY} for name in ("ties", "dare", "magnitude")},
        }
        for label, how in ours.items():
            print(row(f"ours {label}", lambda how=how: by_us(paths, **how), meant), flush=True)


if __name__ == "__main__":
    main()
