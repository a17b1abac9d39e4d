"""Merged checkpoints: the sum in fp32, everything else untouched, loaded by diffusers with the same output."""

import hashlib
import json
import shutil

import pytest
import torch

from lora_diffusion.adapters.methods.lora import delta_weight
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, UsageError, VerificationFailed, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import CONFIGS_KEY, open_checkpoint
from lora_diffusion.files.safe import open_safe
from lora_diffusion.merging import merge
from tests.files.samples import pipeline_folder, sample_adapter, save, tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def base():
    return pipeline_folder()


@pytest.fixture(scope="module")
def half_base(tmp_path_factory):
    """The same base in fp16, as most are published."""
    path = tmp_path_factory.mktemp("half") / "base"
    merge(pipeline_folder(), [], path, precision="fp16")
    return path


@pytest.fixture(scope="module")
def parts():
    return [(sample_adapter(), 0.7), (sample_adapter(seed=1, ranks=(2,), name="other"), -0.3)]


def _expected(checkpoint, parts, key):
    """fp32 sum and one cast, written down as plainly as can be."""
    weight = checkpoint.tensor(key)
    module = key.removesuffix(".weight")
    touching = [
        (adapter.modules[module], by) for adapter, by in parts if key.endswith(".weight") and module in adapter.modules
    ]
    if not touching:
        return weight, False
    return weight.float() + sum(by * delta_weight(each, weight.shape) for each, by in touching), True


@pytest.mark.parametrize("name", ["merged.safetensors", "merged"])
@pytest.mark.parametrize("precision", [None, "fp16", "bf16", "fp32"])
def test_a_merge_is_the_fp32_sum_cast_once_and_nothing_else_moves(name, precision, half_base, parts, tmp_path):
    before = open_checkpoint(half_base)
    done = merge(half_base, parts, tmp_path / name, precision=precision)
    after = open_checkpoint(done.path)
    assert set(after.tensors) == set(before.tensors)
    dtype = {None: torch.float16, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    for key in before.tensors:
        meant, touched = _expected(before, parts, key)
        found = after.tensor(key)
        if key.startswith("vae."):
            assert torch.equal(found, before.tensor(key)), key
            continue
        assert found.dtype == dtype
        if touched:
            assert torch.allclose(found.float(), meant, rtol=8e-3 if precision == "bf16" else 1e-3, atol=1e-6), key
        else:
            assert torch.equal(found, meant.to(dtype)), key
    assert set(done.report.layers) == {module for adapter, _ in parts for module in adapter.modules}


@pytest.mark.parametrize("unet", [{}, {"layers_per_block": 2}], ids=["3x1", "3x2"])
def test_diffusers_loads_the_single_file_and_draws_the_same(unet, tmp_path):
    from diffusers import StableDiffusionPipeline

    pipeline = tiny_pipeline(**unet)
    pipeline.save_pretrained(tmp_path / "base")
    adapter = sample_adapter(pipeline)
    done = merge(tmp_path / "base", [(adapter, 0.8)], tmp_path / "merged.safetensors")
    loaded = StableDiffusionPipeline.from_single_file(str(done.path), config=str(tmp_path / "base"))
    for name, weights in adapter.modules.items():
        component, _, path = name.partition(".")
        module = pipeline.unet if component == "denoiser" else pipeline.text_encoder
        weight = module.get_submodule(path if component == "denoiser" else path.removeprefix("text_model.")).weight
        weight.data += 0.8 * delta_weight(weights, weight.shape)
    draw = torch.Generator().manual_seed(5)
    noisy, context = torch.randn(1, 4, 8, 8, generator=draw), torch.randn(1, 5, 16, generator=draw)
    ids = torch.tensor([[1567, 5, 6, 1568]])
    with torch.no_grad():
        assert torch.equal(loaded.unet(noisy, 3, context).sample, pipeline.unet(noisy, 3, context).sample)
        assert torch.equal(loaded.text_encoder(ids)[0], pipeline.text_encoder(ids)[0])
        assert torch.equal(loaded.vae.decode(noisy).sample, pipeline.vae.decode(noisy).sample)


def test_diffusers_loads_the_folder(base, parts, tmp_path):
    from diffusers import StableDiffusionPipeline

    done = merge(base, parts, tmp_path / "merged")
    loaded = StableDiffusionPipeline.from_pretrained(done.path)
    after = open_checkpoint(done.path)
    for key, value in loaded.unet.state_dict().items():
        assert torch.equal(value, after.tensor(f"denoiser.{key}"))
    assert loaded.tokenizer("a red apple").input_ids == tiny_pipeline().tokenizer("a red apple").input_ids


def test_a_folder_says_the_precision_that_it_holds(base, tmp_path):
    merge(base, [], tmp_path / "merged", precision="bf16")
    config = json.loads((tmp_path / "merged" / "text_encoder" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_folder_to_file_to_folder_is_the_identity(base, tmp_path):
    merge(base, [], tmp_path / "one.safetensors")
    merge(tmp_path / "one.safetensors", [], tmp_path / "two")
    first, last = open_checkpoint(base), open_checkpoint(tmp_path / "two")
    assert set(first.tensors) == set(last.tensors)
    assert all(torch.equal(first.tensor(key), last.tensor(key)) for key in first.tensors)
    assert last.configs == first.configs
    assert last.tokenizer == first.tokenizer


def _without_configs(path, target):
    file = open_safe(path)
    save(dict(file.tensors()), target)
    return target


def test_a_file_without_configs_needs_a_folder_that_lends_them(base, tmp_path):
    merge(base, [], tmp_path / "full.safetensors")
    bare = _without_configs(tmp_path / "full.safetensors", tmp_path / "bare.safetensors")
    with pytest.raises(UsageError, match="carries no"):
        merge(bare, [], tmp_path / "folder")
    merge(bare, [], tmp_path / "folder", configs=base)
    assert set(open_checkpoint(tmp_path / "folder").tensors) == set(open_checkpoint(base).tensors)


def test_keys_that_belong_to_no_component_stay_bit_for_bit(base, tmp_path):
    merge(base, [], tmp_path / "full.safetensors")
    extra = {"model_ema.decay": torch.tensor(0.5), "cond_stage_model.logit_scale": torch.tensor([4], dtype=torch.int64)}
    save({**dict(open_safe(tmp_path / "full.safetensors").tensors()), **extra}, tmp_path / "more.safetensors")
    merge(tmp_path / "more.safetensors", [], tmp_path / "again.safetensors")
    again = open_safe(tmp_path / "again.safetensors")
    assert all(torch.equal(again.tensor(key), each) for key, each in extra.items())


def test_every_single_file_carries_its_configs_and_recipe(base, parts, tmp_path):
    done = merge(base, parts, tmp_path / "merged.safetensors")
    metadata = open_safe(done.path).metadata
    assert set(json.loads(metadata[CONFIGS_KEY])) == {"unet", "vae", "text_encoder", "scheduler"}
    assert [each["weight"] for each in json.loads(metadata["lora_diffusion.merged"])] in ([0.7, -0.3], [-0.3, 0.7])
    assert done.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()


def test_equal_merges_give_equal_bytes_in_any_order(base, parts, tmp_path):
    one = merge(base, parts, tmp_path / "a" / "m.safetensors")
    other = merge(base, parts[::-1], tmp_path / "b" / "m.safetensors")
    assert one.sha256 == other.sha256
    assert merge(base, parts, tmp_path / "c").sha256 == merge(base, parts, tmp_path / "d").sha256


def test_the_loss_report_tells_how_much_of_a_subtle_style_rounding_took(half_base, tmp_path):
    pipeline = tiny_pipeline()
    full = sample_adapter(pipeline, kernels=False, text=False)
    quiet = {name: Weights(down=each.down, up=each.up * 1e-3, alpha=each.alpha) for name, each in full.modules.items()}
    adapter = Adapter(name="subtle", family="sd1", modules=quiet)
    losses = {}
    for precision in ("bf16", "fp16", "fp32"):
        done = merge(half_base, [(adapter, 1.0)], tmp_path / f"{precision}.safetensors", precision=precision)
        losses[precision] = done.report.total
        before, after = open_checkpoint(half_base), open_checkpoint(done.path)
        name = next(iter(quiet))
        base_weight = before.tensor(f"{name}.weight").double()
        meant = delta_weight(quiet[name], base_weight.shape).double()
        error = (after.tensor(f"{name}.weight").double() - base_weight - meant).norm() / meant.norm()
        assert done.report.layers[name] == pytest.approx(float(error), rel=1e-3)
    assert losses["bf16"] > 0.3 > losses["fp16"] > 0.01
    assert 1e-4 > losses["fp32"] > 1e-7  # a base of 0.1 is rounded at 2^-28 in fp32, a delta of 1e-4 is not exact there


def test_a_1x1_convolution_merges_in_either_number_of_dimensions(base, tmp_path):
    name = "denoiser.mid_block.attentions.0.proj_in"
    flat = sample_adapter().modules[name]
    flat = Weights(down=flat.down.flatten(1), up=flat.up.flatten(1), alpha=flat.alpha)
    results = [
        merge(base, [(Adapter(name="x", family="sd1", modules={name: each}), 1.0)], tmp_path / f"{at}.safetensors")
        for at, each in enumerate((flat, sample_adapter().modules[name]))
    ]
    first, second = (open_checkpoint(done.path).tensor(f"{name}.weight") for done in results)
    assert torch.equal(first, second)


def _one(name, down, up, family="sd1"):
    weights = Weights(down=torch.ones(down), up=torch.ones(up), alpha=1.0)
    return Adapter(name="wrong", family=family, modules={name: weights})


@pytest.mark.parametrize(
    ("adapter", "error", "says"),
    [
        (_one("denoiser.down_blocks.9.conv", (1, 4), (4, 1)), TargetError, r"denoiser\.down_blocks\.9\.conv"),
        (_one("denoiser.conv_in", (1, 320, 3, 3), (8, 1, 1, 1)), TargetError, r"denoiser\.conv_in"),
        (_one("denoiser.conv_in", (1, 4, 3, 3), (8, 1, 1, 1), family="sdxl"), WrongFamily, "sdxl"),
        (_one("denoiser.conv_in", (1, 4, 3, 3), (8, 1, 1, 1)), UsageError, "nan"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(adapter, error, says, base, tmp_path):
    for out in ("m.safetensors", "m"):
        with pytest.raises(error, match=says):
            merge(base, [(adapter, float("nan") if says == "nan" else 1.0)], tmp_path / out)
    assert not list(tmp_path.iterdir())


def test_a_number_too_large_for_fp16_stops_the_merge(base, tmp_path):
    adapter = _one("denoiser.conv_in", (1, 4, 3, 3), (8, 1, 1, 1))
    with pytest.raises(VerificationFailed, match=r"denoiser\.conv_in\.weight"):
        merge(base, [(adapter, 1e6)], tmp_path / "m.safetensors", precision="fp16")
    assert not list(tmp_path.iterdir())


def test_the_base_is_never_overwritten(base, tmp_path):
    merge(base, [], tmp_path / "base.safetensors")
    with pytest.raises(UsageError, match="is part of what is read"):
        merge(tmp_path / "base.safetensors", [], tmp_path / "base.safetensors")


def test_pickles_of_the_base_are_not_copied(base, tmp_path):
    source = shutil.copytree(base, tmp_path / "base")
    (source / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    (source / "safety_checker").mkdir()
    (source / "safety_checker" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    (source / "safety_checker" / "config.json").write_text("{}")
    merge(source, [], tmp_path / "merged")
    assert not list((tmp_path / "merged").rglob("*.bin"))
    assert (tmp_path / "merged" / "safety_checker" / "config.json").is_file()
