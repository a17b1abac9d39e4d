"""Bytes of merged files against dense float64 sums, cast once.

Base and factors are whole multiples of powers of two, so that no sum is rounded before the cast: what remains to differ
is an error. The reference multiplies out what the adapters hold, without our arithmetic.
"""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.safe import open_safe
from lora_diffusion.merging import merge
from tests import tiny
from tests.files.samples import dense

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp8": torch.float16}
_STEP = 2.0**-16


@pytest.fixture(scope="module", params=sorted(tiny.FAMILIES))
def base(request, tmp_path_factory):
    """A folder of each family whose weights are multiples of 2^-16."""
    folder = tiny.FAMILIES[request.param](tmp_path_factory.mktemp("exact") / "base")
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        rounded = {
            key: (each / _STEP).round() * _STEP if each.is_floating_point() else each for key, each in tensors.items()
        }
        save_file(rounded, path, {"format": "pt"})
    return folder


def _adapter(checkpoint, seed, rank):
    """A LoRA of every matrix and kernel of denoiser and text encoders, and a bias here and there, in eighths."""
    draw = torch.Generator().manual_seed(seed)

    def eighths(*shape):
        return torch.randint(-8, 9, shape, generator=draw) / 8

    modules = {}
    for key, stored in checkpoint.tensors.items():
        if key.startswith("vae.") or not key.endswith(".weight") or len(stored.shape) < 2 or ".embeddings." in key:
            continue
        name, (out, *inner), ones = key.removesuffix(".weight"), stored.shape, [1] * (len(stored.shape) - 2)
        biased = len(modules) % 3 == 0 and f"{name}.bias" in checkpoint.tensors
        extra = {"bias": eighths(out)} if biased else {}
        modules[name] = Weights(down=eighths(rank, *inner), up=eighths(out, rank, *ones), alpha=rank / 2, extra=extra)
    return Adapter(name=f"a{seed}", family=checkpoint.family, modules=modules)


def _sums(checkpoint, parts):
    """Return every tensor in float64 with what the parts add."""
    sums = {key: checkpoint.tensor(key).double() for key in checkpoint.tensors}
    for adapter, by in parts:
        for name, weights in adapter.modules.items():
            sums[f"{name}.weight"] += by * dense(weights).reshape(sums[f"{name}.weight"].shape)
            if "bias" in weights.extra:
                sums[f"{name}.bias"] += by * weights.extra["bias"].double()
    return sums


def _stored(checkpoint, sums, precision):
    """Return what a single file of a precision holds, by its name there."""
    layout, held = checkpoint.layout, {}
    for name in dict.fromkeys(layout.original(key) for key in checkpoint.tensors):
        keys = layout.keys(name)
        whole = layout.joined(name, [sums[key] for key in keys])
        key = keys[0]
        if key.startswith("vae."):
            held[name] = whole.to(checkpoint.tensors[key].dtype)
        elif precision == "fp8" and key.startswith("denoiser.") and ".transformer_blocks." in key and whole.ndim == 2:
            scale = whole.abs().max().float() / 448
            held[name] = (whole / scale.double()).clamp(-448, 448).to(torch.float8_e4m3fn)
            held[name.replace(".weight", ".weight_scale")] = scale
        else:
            held[name] = whole.to(_DTYPES[precision])
    return held


def _payload(path):
    file = open_safe(path)
    return list(file.entries), hashlib.sha256(path.read_bytes()[file.payload :]).hexdigest()


@pytest.mark.parametrize("precision", sorted(_DTYPES))
def test_a_merged_file_holds_the_bytes_of_the_dense_float64_sum_cast_once(precision, base, tmp_path):
    checkpoint = open_checkpoint(base)
    parts = [(_adapter(checkpoint, 1, 4), 0.5), (_adapter(checkpoint, 2, 2), -0.25)]
    done = merge(base, parts, tmp_path / "m.safetensors", precision=precision)
    meant = _stored(checkpoint, _sums(checkpoint, parts), precision)
    names, found = _payload(done.path)
    assert set(names) == set(meant)
    whole = b"".join(meant[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for name in names)
    assert found == hashlib.sha256(whole).hexdigest()
    assert (done.report.total == 0) == (precision == "fp32")


def test_the_same_bytes_come_from_a_folder_and_from_a_single_file(base, tmp_path):
    checkpoint = open_checkpoint(base)
    parts = [(_adapter(checkpoint, 1, 4), 0.5)]
    single = tiny.single_file(base, tmp_path / "base.safetensors")
    one = merge(base, parts, tmp_path / "one.safetensors", precision="bf16")
    other = merge(single, parts, tmp_path / "other.safetensors", precision="bf16")
    assert _payload(one.path) == _payload(other.path)
    folder = merge(single, parts, tmp_path / "folder", precision="bf16")
    again = merge(folder.path, [], tmp_path / "again.safetensors")
    assert _payload(again.path) == _payload(one.path)


def _with_vae(base, dtype, target):
    """Copy a base with its VAE in `dtype`, in fp32 with a number that fp16 cannot hold."""
    shutil.copytree(base, target)
    (path,) = (target / "vae").glob("*.safetensors")
    tensors = {key: each.to(dtype) for key, each in load_file(path).items()}
    if dtype == torch.float32:
        tensors["decoder.conv_in.bias"][0] = 1e6
    save_file(tensors, path, {"format": "pt"})
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("precision", [None, *sorted(_DTYPES)])
def test_the_vae_stays_as_found_in_any_precision(precision, dtype, base, tmp_path):
    source = _with_vae(base, dtype, tmp_path / "base")
    before = open_checkpoint(source)
    parts = [(_adapter(before, 1, 1), 0.5)]
    outs = ("m.safetensors",) if precision == "fp8" else ("m.safetensors", "folder")
    for out in outs:
        after = open_checkpoint(merge(source, parts, tmp_path / out, precision=precision).path)
        for key in before.tensors:
            if key.startswith("vae."):
                assert after.tensors[key].dtype == dtype
                assert torch.equal(after.tensor(key), before.tensor(key)), key


def test_a_loss_in_fp32_is_that_of_the_float64_sum(base, tmp_path):
    checkpoint = open_checkpoint(base)
    loud = _adapter(checkpoint, 1, 2)
    modules = {name: replace(each, up=each.up * 1e-5 / 3, extra={}) for name, each in loud.modules.items()}
    quiet = replace(loud, modules=modules)
    done = merge(base, [(quiet, 0.5)], tmp_path / "m.safetensors", precision="fp32")
    meant, after = _sums(checkpoint, [(quiet, 0.5)]), open_checkpoint(done.path)
    for name in modules:
        key = f"{name}.weight"
        lost = (after.tensor(key).double() - meant[key]).norm()
        size = (meant[key] - checkpoint.tensor(key).double()).norm()
        assert done.report.layers[name] == pytest.approx(float(lost / size), rel=0.01)
    assert 1e-6 < done.report.total < 1e-2
