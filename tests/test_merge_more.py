"""Merging every method, per block, into every precision; what rounding took comes back with the residual."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import Adapter, read_adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.dense import delta
from lora_diffusion.files.safe import open_safe
from lora_diffusion.merging import merge
from lora_diffusion.parts import parse_part
from tests.files.samples import pipeline_folder, sample_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def base():
    return pipeline_folder()


@pytest.fixture(scope="module")
def bf16_base(tmp_path_factory):
    path = tmp_path_factory.mktemp("bf16") / "base"
    merge(pipeline_folder(), [], path, precision="bf16")
    return path


def _subtle(seed=0, by=1e-3):
    full = sample_adapter(kernels=False, text=False, seed=seed)
    quiet = {name: replace(each, up=each.up * by) for name, each in full.modules.items()}
    return Adapter(name="subtle", family="sd1", modules=quiet)


_QUERY = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
_NORM = "denoiser.mid_block.attentions.0.transformer_blocks.0.norm1"


def _of_every_method():
    """One module each of LoRA, LoHa, LoKr, DoRA, LoRA with a bias, and whole deltas of a weight with its bias and of a
    norm; 16 wide."""
    draw = torch.Generator().manual_seed(7)

    def some(*shape):
        return torch.randn(*shape, generator=draw) * 0.2

    place = _QUERY.removesuffix("attn1.to_q")
    return {
        _QUERY: Weights(down=some(2, 16), up=some(16, 2), alpha=1.0),
        f"{place}attn1.to_k": Weights(
            down=some(2, 16), up=some(16, 2), alpha=1.0, method="loha", extra={"up2": some(16, 2), "down2": some(2, 16)}
        ),
        f"{place}attn1.to_v": Weights(down=some(4, 4), up=some(4, 4), alpha=1.0, method="lokr"),
        f"{place}attn2.to_q": Weights(
            down=some(2, 16), up=some(16, 2), alpha=1.0, extra={"dora_scale": some(16, 1).abs() + 1}
        ),
        f"{place}attn1.to_out.0": Weights(
            down=torch.empty(0), up=some(16, 16), alpha=1.0, method="full", extra={"bias": some(16)}
        ),
        f"{place}attn2.to_out.0": Weights(down=some(2, 16), up=some(16, 2), alpha=1.0, extra={"bias": some(16)}),
        _NORM: Weights(down=torch.empty(0), up=some(16), alpha=1.0, method="full"),
    }


def test_every_method_merges_by_its_own_delta(base, tmp_path):
    modules = _of_every_method()
    adapter = Adapter(name="all", family="sd1", modules=modules)
    done = merge(base, [(adapter, 0.6)], tmp_path / "m.safetensors")
    before, after = open_checkpoint(base), open_checkpoint(done.path)
    for name, weights in modules.items():
        old, new = (each.tensor(f"{name}.weight") for each in (before, after))
        assert torch.allclose(new, old + 0.6 * delta(weights, old).reshape(old.shape), atol=1e-6), name
        assert not torch.equal(new, old)
    biases = {f"{name}.bias" for name, weights in modules.items() if "bias" in weights.extra}
    for bias in biases:
        meant = before.tensor(bias) + 0.6 * modules[bias.removesuffix(".bias")].extra["bias"]
        assert torch.allclose(after.tensor(bias), meant, atol=1e-6)
    changed = {key for key in before.tensors if not torch.equal(before.tensor(key), after.tensor(key))}
    assert changed == {f"{name}.weight" for name in modules} | biases
    assert len(biases) == 2


def test_weights_per_block_hold_in_a_merge(base, tmp_path):
    adapter = sample_adapter()
    done = merge(base, [(adapter, parse_part("x:0.5@unet.up=2@text=0"))], tmp_path / "m.safetensors")
    before, after = open_checkpoint(base), open_checkpoint(done.path)
    for name, weights in adapter.modules.items():
        by = 0.0 if name.startswith("text_encoder") else 2.0 if ".up_blocks." in name else 0.5
        old, new = (each.tensor(f"{name}.weight") for each in (before, after))
        assert torch.allclose(new, old + by * delta(weights, old), atol=1e-5), name
        assert torch.equal(new, old) == (by == 0)
    recipe = json.loads(open_safe(done.path).metadata["lora_diffusion.merged"])
    assert recipe[0]["overrides"] == {"unet.up": 2.0, "text": 0.0}


def _exact(before, adapter, name):
    old = before.tensor(f"{name}.weight").float()
    return old + delta(adapter.modules[name], old)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp8"])
def test_merged_plus_residual_is_the_exact_sum(precision, base, tmp_path):
    adapter = _subtle(by=0.05)
    done = merge(
        base,
        [(adapter, 1.0)],
        tmp_path / "m.safetensors",
        precision=precision,
        residual=tmp_path / "rest.safetensors",
    )
    assert done.report.total > 1e-3
    assert done.missing.total <= 1e-6
    before, file, rest = open_checkpoint(base), open_safe(done.path), read_adapter(done.residual)
    layout = open_checkpoint(base).layout
    for name in adapter.modules:
        exact = _exact(before, adapter, name)
        key = layout.original(f"{name}.weight")
        stored = file.tensor(key).float().reshape(exact.shape)
        scale = key.replace(".weight", ".weight_scale")
        stored *= file.tensor(scale) if scale in file.entries else 1.0
        whole = stored + (delta(rest.modules[name], exact) if name in rest.modules else 0)
        assert float((whole - exact).norm() / exact.norm()) <= 1e-6, name


def test_a_residual_is_exact_for_a_style_far_below_the_rounding_of_the_base(base, tmp_path):
    adapter, rest = _subtle(by=1e-4), tmp_path / "rest.safetensors"
    done = merge(base, [(adapter, 1.0)], tmp_path / "m.safetensors", precision="fp16", residual=rest)
    before, file, found = open_checkpoint(base), open_safe(done.path), read_adapter(rest)
    for name, weights in adapter.modules.items():
        change, old = delta(weights).double(), before.tensor(f"{name}.weight").double()
        stored = file.tensor(before.layout.original(f"{name}.weight")).double()
        left = old + change.reshape(old.shape) - stored.reshape(old.shape)
        left -= delta(found.modules[name], old).double().reshape(old.shape)
        assert float(left.norm() / change.norm()) <= 3e-6, name


def test_a_residual_of_small_rank_brings_a_subtle_style_back(bf16_base, tmp_path):
    adapter = _subtle(by=2e-4)
    done = merge(
        bf16_base,
        [(adapter, 1.0)],
        tmp_path / "m.safetensors",
        residual=tmp_path / "rest.safetensors",
        residual_rank=4,
    )
    assert max(read_adapter(done.residual).ranks) <= 4
    assert done.report.total > 0.8
    assert done.missing.total < 0.3 * done.report.total


def test_where_nothing_is_lost_there_is_no_residual(bf16_base, tmp_path):
    negative = open_checkpoint(bf16_base).tensor(f"{_QUERY}.weight").float().neg()
    weights = Weights(down=torch.empty(0), up=negative, alpha=1.0, method="full")
    adapter = Adapter(name="undoing", family="sd1", modules={_QUERY: weights})
    rest = tmp_path / "rest.safetensors"
    done = merge(bf16_base, [(adapter, 2.0)], tmp_path / "m.safetensors", residual=rest)  # W - 2 W is exact
    assert (done.report.total, done.residual, done.missing.total) == (0.0, None, 0.0)
    assert not (tmp_path / "rest.safetensors").exists()


def test_scaled_fp8_keeps_its_scales_where_comfyui_looks_for_them(base, tmp_path):
    done = merge(base, [(_subtle(), 1.0)], tmp_path / "m.safetensors", precision="fp8")
    file, before = open_safe(done.path), open_checkpoint(base)
    said = json.loads(file.metadata["_quantization_metadata"])
    layers = {name.removesuffix(".weight_scale") for name in file.entries if name.endswith(".weight_scale")}
    assert set(said["layers"]) == layers
    assert all(layer.startswith("model.diffusion_model.") for layer in layers)
    assert len(layers) == len([key for key in before.tensors if ".transformer_blocks." in key and _is_matrix(key)])
    for layer, how in said["layers"].items():
        assert how == {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
        stored, scale = file.tensor(f"{layer}.weight"), file.tensor(f"{layer}.weight_scale")
        assert (stored.dtype, scale.dtype, scale.shape) == (torch.float8_e4m3fn, torch.float32, ())
        assert float(stored.float().abs().max()) == 448
    others = {entry.dtype for name, entry in file.entries.items() if not name.startswith("first_stage_model")}
    assert others == {torch.float8_e4m3fn, torch.float32, torch.float16}
    key = before.layout.original(f"{_QUERY}.weight")
    read = file.tensor(key).float() * file.tensor(f"{key}_scale")
    exact = _exact(before, _subtle(), _QUERY)
    assert float((read - exact).norm() / exact.norm()) < 0.04  # 3 bits of mantissa: at most 2^-4 per weight


def _is_matrix(key):
    return key.endswith(".weight") and ".norm" not in key


def test_scaled_fp8_is_no_base_and_no_folder(base, tmp_path):
    merge(base, [], tmp_path / "m.safetensors", precision="fp8")
    with pytest.raises(UsageError, match="scaled 8-bit"):
        merge(tmp_path / "m.safetensors", [], tmp_path / "again.safetensors")
    with pytest.raises(UsageError, match="from a folder"):
        merge(base, [], tmp_path / "folder", precision="fp8")
    assert not (tmp_path / "folder").exists()


def test_nothing_that_exists_is_replaced_unless_asked(base, tmp_path):
    out, rest = tmp_path / "m.safetensors", tmp_path / "rest.safetensors"
    for occupied in (out, rest):
        occupied.write_text("mine")
        with pytest.raises(UsageError, match="exists already"):
            merge(base, [(_subtle(), 1.0)], out, precision="bf16", residual=rest)
        assert {each.read_text() for each in tmp_path.iterdir()} == {"mine"}
        occupied.unlink()
    out.write_text("mine")
    merge(base, [(_subtle(), 1.0)], out, precision="bf16", residual=rest, overwrite=True)
    assert open_safe(out).entries
    assert read_adapter(rest).modules


def test_a_residual_that_cannot_be_written_leaves_no_checkpoint(base, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Exception, match="file"):
        merge(
            base,
            [(_subtle(), 1.0)],
            tmp_path / "m.safetensors",
            precision="bf16",
            residual=tmp_path / "file" / "rest.safetensors",
        )
    assert {each.name for each in tmp_path.iterdir()} == {"file"}


_CHILD = """
import resource, sys
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.merging import merge
base, style, warm, out = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
adapter = read_adapter(style)
merge(warm, [], out + "-warm.safetensors")  # what importing and running costs once
before = peak()
merge(base, [(adapter, 0.5)], out + ".safetensors", precision="bf16")
print(peak() - before)
"""


def test_memory_holds_a_few_tensors_and_never_the_checkpoint(base, tmp_path):
    from lora_diffusion.files.adapter import write_adapter
    from tests.files.samples import tiny_pipeline

    pipeline = tiny_pipeline(block_out_channels=(128, 256, 256), layers_per_block=2, norm_num_groups=32)
    pipeline.save_pretrained(tmp_path / "base")
    write_adapter(sample_adapter(pipeline, kernels=False, text=False), tmp_path / "style.safetensors")
    sizes = [file.stat().st_size for file in (tmp_path / "base").rglob("*.safetensors")]
    command = [sys.executable, "-c", _CHILD, tmp_path / "base", tmp_path / "style.safetensors", base, tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert sum(sizes) > 60e6
    assert int(done.stdout) < 0.5 * sum(sizes)
