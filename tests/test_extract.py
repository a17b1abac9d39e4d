"""Adapters out of fine-tuned checkpoints, and smaller ones out of adapters, against dense float64 arithmetic."""

from dataclasses import replace

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import TargetError, UsageError, WrongFamily
from lora_diffusion.extracting import extract
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.dense import delta
from lora_diffusion.merging import merge
from lora_diffusion.resizing import resize
from tests.files.samples import dense, pipeline_folder, sample_adapter, tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def base():
    return pipeline_folder()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A base whose every layer was moved by a delta of rank 2 to 4, in fp32."""
    return merge(pipeline_folder(), [(sample_adapter(), 1.0)], tmp_path_factory.mktemp("tuned") / "t.safetensors").path


def _relative(result, meant):
    return float((result - meant).norm() / meant.norm())


def test_what_was_merged_is_extracted(tuned, base):
    done = extract(tuned, base, rank=4)
    meant = sample_adapter().modules
    assert set(done.adapter.modules) == set(meant)
    for name, weights in meant.items():
        assert _relative(dense(done.adapter.modules[name]), dense(weights)) < 1e-4, name
        assert done.adapter.modules[name].down.shape[1:] == weights.down.shape[1:]
    assert done.report.total < 1e-4  # fp32 rounding of the checkpoint
    assert (done.left_out, done.left_share) == ({}, 0.0)


def test_the_error_of_each_layer_is_that_of_the_dense_difference(tuned, base):
    done = extract(tuned, base, rank=1)
    before, after = open_checkpoint(base), open_checkpoint(tuned)
    for name, weights in done.adapter.modules.items():
        change = (after.tensor(f"{name}.weight").double() - before.tensor(f"{name}.weight").double()).flatten(1)
        assert weights.rank == 1
        assert done.report.layers[name] == pytest.approx(_relative(dense(weights), change), abs=1e-5)
        values = torch.linalg.svdvals(change)
        assert done.report.layers[name] == pytest.approx(float(values[1:].norm() / values.norm()), abs=1e-5)


def test_a_share_finds_the_rank_that_each_layer_has(tuned, base):
    done = extract(tuned, base, keep=1 - 1e-9)
    assert {name: each.rank for name, each in done.adapter.modules.items()} == {
        name: min(each.rank, *dense(each).shape) for name, each in sample_adapter().modules.items()
    }


def test_an_extracted_adapter_writes_reads_and_merges_to_the_same_checkpoint(tuned, base, tmp_path):
    write_adapter(extract(tuned, base, rank=4).adapter, tmp_path / "a.safetensors", dtype="fp32")
    merge(base, [(read_adapter(tmp_path / "a.safetensors"), 1.0)], tmp_path / "again.safetensors")
    one, other = open_checkpoint(tuned), open_checkpoint(tmp_path / "again.safetensors")
    assert all(torch.allclose(one.tensor(key), other.tensor(key), atol=1e-5) for key in one.tensors)


def test_what_no_lora_can_hold_is_named_with_its_share(base, tmp_path):
    name = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
    whole = Weights(
        down=torch.empty(0), up=torch.full((16, 16), 0.03), alpha=1.0, method="full", extra={"bias": torch.ones(16)}
    )
    adapter = Adapter(name="x", family="sd1", modules={name: whole})
    tuned = merge(base, [(adapter, 1.0)], tmp_path / "t.safetensors").path
    done = extract(tuned, base, rank=1)
    assert set(done.adapter.modules) == {name}
    assert done.left_out == {f"{name}.bias": pytest.approx(4.0)}
    assert done.left_share == pytest.approx(4 / (16 + 0.48**2) ** 0.5, rel=1e-4)


def test_rounding_to_another_precision_is_no_training(base, tmp_path):
    half = merge(base, [], tmp_path / "half.safetensors", precision="fp16").path
    with pytest.raises(UsageError, match="differs"):
        extract(half, base, rank=4)


def test_checkpoints_that_do_not_belong_together_are_refused(tuned, base, tmp_path):
    tiny_pipeline(layers_per_block=2).save_pretrained(tmp_path / "other")
    with pytest.raises(TargetError, match="has nothing for denoiser"):
        extract(tuned, tmp_path / "other", rank=4)
    with pytest.raises(WrongFamily, match="not sdxl"):
        extract(tuned, base, rank=4, family="sdxl")
    scaled = merge(base, [], tmp_path / "scaled.safetensors", precision="fp8").path
    with pytest.raises(UsageError, match="scaled 8-bit"):
        extract(scaled, base, rank=4)


@pytest.mark.parametrize("limit", [{}, {"rank": 4, "keep": 0.9}, {"rank": 0}, {"keep": 2.0}])
def test_a_limit_that_is_none_is_refused(limit, tuned, base):
    with pytest.raises(UsageError):
        extract(tuned, base, **limit)


def test_progress_counts_every_tensor(tuned, base):
    seen = []
    extract(tuned, base, rank=1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, seen[-1][1]) for number in range(1, seen[-1][1] + 1)]


@pytest.mark.parametrize("limit", [{"rank": 2}, {"keep": 0.8}, {"energy": 0.8}])
def test_a_resized_adapter_says_what_it_lost(limit):
    adapter = sample_adapter(ranks=(8, 6))
    done = resize(adapter, **limit)
    lost = {name: dense(each) for name, each in adapter.modules.items()}
    for name, each in done.adapter.modules.items():
        meant = dense(adapter.modules[name])
        assert done.report.layers[name] == pytest.approx(_relative(dense(each), meant), abs=1e-6)
        lost[name] = meant - dense(each)
    whole = sum(float(dense(each).norm()) ** 2 for each in adapter.modules.values())
    left = sum(float(each.norm()) ** 2 for each in lost.values())
    assert done.report.total == pytest.approx((left / whole) ** 0.5, abs=1e-6)
    if "rank" not in limit:
        assert 1 - left / whole >= 0.8 - 1e-9
    assert done.after < done.before


def test_energy_of_the_whole_needs_fewer_numbers_than_the_same_of_each_module():
    adapter = sample_adapter(ranks=(8, 6))
    loud = {
        name: replace(each, alpha=each.alpha * (1 + at % 5)) for at, (name, each) in enumerate(adapter.modules.items())
    }
    adapter = replace(adapter, modules=loud)
    each, whole = resize(adapter, keep=0.9), resize(adapter, energy=0.9)
    assert whole.report.total <= 0.1**0.5 + 1e-6
    assert whole.after < 0.9 * each.after


def test_other_methods_become_a_lora():
    draw = torch.Generator().manual_seed(0)
    up, down, up2, down2 = (torch.randn(*shape, generator=draw) for shape in ((16, 2), (2, 16)) * 2)
    loha = Weights(down=down, up=up, alpha=1.0, method="loha", extra={"up2": up2, "down2": down2})
    name = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    done = resize(Adapter(name="x", family="sd1", modules={name: loha}), keep=1.0)
    assert done.adapter.modules[name].rank == 4
    assert _relative(dense(done.adapter.modules[name]), delta(loha).double()) < 1e-6


_QUERY = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def _decomposed(base):
    """A DoRA of one module, and its true delta in float64 beside that base."""
    weight, plain = open_checkpoint(base).tensor(f"{_QUERY}.weight"), sample_adapter().modules[_QUERY]
    norms = weight.norm(dim=1, keepdim=True) * 1.3
    whole = weight.double() + dense(plain)
    meant = norms.double() * whole / whole.norm(dim=1, keepdim=True) - weight.double()
    modules = {_QUERY: replace(plain, extra={"dora_scale": norms})}
    return Adapter(name="dora", family="sd1", modules=modules), meant


@pytest.mark.parametrize("limit", [{"rank": 4}, {"keep": 0.9}, {"energy": 0.9}])
def test_a_decomposed_adapter_is_resized_by_its_true_delta(limit, base):
    adapter, meant = _decomposed(base)
    done = resize(adapter, **limit, base=base)
    found = done.adapter.modules[_QUERY]
    assert found.is_plain
    values = torch.linalg.svdvals(meant)
    best = float(values[found.rank :].norm() / values.norm())  # Eckart and Young
    assert 1e-3 < best < 0.6
    assert _relative(dense(found), meant) == pytest.approx(best, rel=1e-4)
    assert done.report.total == pytest.approx(best, rel=1e-4)


def test_a_decomposed_adapter_without_its_base_is_not_resized(base, tmp_path):
    adapter, _ = _decomposed(base)
    with pytest.raises(UsageError, match=f"dora at {_QUERY}.*depends on the base weight") as caught:
        resize(adapter, rank=2)
    assert "--base" in caught.value.hint
    elsewhere = replace(adapter, modules={"denoiser.mid_block.nowhere": adapter.modules[_QUERY]})
    with pytest.raises(WrongFamily, match=r"has no denoiser\.mid_block\.nowhere"):
        resize(elsewhere, rank=2, base=base)


@pytest.mark.parametrize("limit", [{"rank": 1}, {"energy": 0.5}])
def test_a_change_of_a_bias_stays_in_a_resized_adapter(limit):
    adapter = sample_adapter()
    quiet, bias = adapter.modules[_QUERY], torch.arange(16.0)
    modules = {**adapter.modules, _QUERY: replace(quiet, up=quiet.up * 1e-3, extra={"bias": bias})}
    done = resize(replace(adapter, modules=modules), **limit)
    assert torch.equal(done.adapter.modules[_QUERY].extra["bias"], bias)


@pytest.mark.parametrize("limit", [{}, {"rank": 2, "energy": 0.5}, {"energy": 0.0}, {"keep": 0.0}])
def test_a_size_that_is_none_is_refused(limit):
    with pytest.raises(UsageError):
        resize(sample_adapter(), **limit)
