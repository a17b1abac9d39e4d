"""Methods of blending: what each promises beside the weighted sum of dense float64 deltas."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import NotMergeable, UsageError
from lora_diffusion.exporting import blend_to_file
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.dense import bias_delta, delta
from lora_diffusion.generation.blend import blend, blend_error, truncate
from lora_diffusion.generation.blending import methods
from lora_diffusion.parts import parse_part
from tests.files.samples import pipeline_folder
from tests.test_blend import _adapter, _dense, _relative, _sum

_LINEAR = {"denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (24, 16)}
_SHAPES = {**_LINEAR, "denoiser.up_blocks.1.resnets.0.conv1": (8, 6, 3, 3)}


def _parts(*weights, ranks=(3, 5, 2), shapes=_SHAPES):
    return [(_adapter(at, ranks[at], alpha=1.0 + at, shapes=shapes), by) for at, by in enumerate(weights)]


@pytest.mark.parametrize("name", methods())
def test_a_method_gives_the_same_file_for_any_order(name, tmp_path):
    parts = _parts(0.7, -0.4, 0.2)
    files = {
        blend_to_file(order, tmp_path / str(at) / "b.safetensors", method=name).sha256
        for at, order in enumerate(itertools.permutations(parts))
    }
    assert len(files) == 1


@pytest.mark.parametrize("name", methods())
def test_a_method_says_how_far_it_is_from_the_weighted_sum(name):
    parts = _parts(0.7, -0.4)
    done = blend(parts, name="x", method=name)
    for module in _SHAPES:
        found = _relative(_dense(done.adapter.modules[module]), _sum(parts, module))
        assert done.report.layers[module] == pytest.approx(found, abs=1e-6)
    assert (done.report.total <= 1e-6) == (name in ("concat", "svd"))


@pytest.mark.parametrize("name", ["ties", "dare", "magnitude"])
def test_with_all_entries_and_no_conflict_a_method_is_the_weighted_sum(name):
    one = _adapter(0, shapes=_SHAPES)
    parts = [(one, 0.5), (replace(one, name="twin"), 0.25)]
    done = blend(parts, name="x", method=name, density=1.0)
    assert done.report.total <= 1e-6


def _largest(matrix, share):
    count = round(share * matrix.numel())
    threshold = matrix.abs().flatten().sort(descending=True).values[count - 1]
    return torch.where(matrix.abs() >= threshold, matrix, 0.0)


def test_magnitude_keeps_the_largest_entries_of_each_delta():
    parts = _parts(0.7, -0.4)
    done = blend(parts, name="x", method="magnitude", density=0.25, rank=16)
    for module in _SHAPES:
        meant = sum(_largest(_dense(adapter.modules[module], by), 0.25) for adapter, by in parts)
        rank = min(16, *meant.shape)
        u, s, v = torch.linalg.svd(meant, full_matrices=False)
        best = u[:, :rank] * s[:rank] @ v[:rank]
        assert _relative(_dense(done.adapter.modules[module]), best) <= 1e-5


def test_ties_adds_only_what_agrees_with_the_elected_sign():
    parts = _parts(0.7, -0.4, 0.3)
    done = blend(parts, name="x", method="ties", density=0.5, rank=16)
    for module in _SHAPES:
        trimmed = torch.stack([_largest(_dense(adapter.modules[module], by), 0.5) for adapter, by in parts])
        meant = torch.where(trimmed.sign() == trimmed.sum(0).sign(), trimmed, 0.0).sum(0)
        assert _relative(_dense(done.adapter.modules[module]), meant) <= 1e-5


def test_dare_draws_the_same_for_a_seed_and_keeps_the_sum_on_average(tmp_path):
    parts = _parts(0.7, -0.4, shapes=_LINEAR)
    one, again, other = (
        blend_to_file(parts, tmp_path / f"{at}" / "b.safetensors", method="dare", seed=seed)
        for at, seed in enumerate((5, 5, 6))
    )
    assert one.sha256 == again.sha256 != other.sha256
    recipe = json.loads(one.blended.adapter.metadata["lora_diffusion.blend"])
    assert (recipe["seed"], recipe["density"]) == (5, 0.5)
    module = next(iter(_LINEAR))
    drawn = [blend(parts, name="x", method="dare", seed=seed, rank=16).adapter.modules[module] for seed in range(200)]
    mean = torch.stack([_dense(each) for each in drawn]).mean(0)
    assert _relative(mean, _sum(parts, module)) < 0.15  # one draw is 1.0 off; 200 of them 0.07


@pytest.mark.parametrize("name", ["ties", "dare", "magnitude"])
def test_the_fit_tells_what_the_rank_alone_cost(name):
    parts = _parts(0.7, -0.4)
    full, small = (blend(parts, name="x", method=name, rank=rank) for rank in (24, 2))
    assert full.fit.total <= 1e-7
    assert 0.1 < small.fit.total < 1


def test_a_share_of_the_energy_gives_ranks_per_layer():
    done = blend(_parts(0.7, -0.4), name="x", method="magnitude", keep=0.9)
    assert done.fit.total <= 0.1**0.5 + 1e-6
    assert len(done.adapter.ranks) == 2


def test_weights_per_block_hold_in_a_blend():
    parts = _parts(0.7, 0.5)
    spec = parse_part("a:0.7@unet.mid=-2")
    done = blend([(parts[0][0], spec), parts[1]], name="x")
    for module, by in zip(_SHAPES, (-2.0, 0.7), strict=True):
        meant = _dense(parts[0][0].modules[module], by) + _dense(parts[1][0].modules[module], 0.5)
        assert _relative(_dense(done.adapter.modules[module]), meant) <= 1e-6
    assert done.report.total <= 1e-6


def test_a_block_of_weight_0_adds_no_rank():
    parts = _parts(0.7, 0.5)
    done = blend([(parts[0][0], parse_part("a@unet.mid=0")), parts[1]], name="x")
    assert [each.rank for each in done.adapter.modules.values()] == [5, 8]


def _inner(one, other):
    return float((one * other).sum() / (one.norm() * other.norm()))


def test_what_is_projected_off_an_adapter_meets_it_nowhere():
    parts = _parts(1.0, 0.8, 0.5)
    protected = parts[0][0]
    done = blend(parts, name="x", orthogonal_to=protected)
    for module in _SHAPES:
        own = _dense(protected.modules[module])
        rest = _dense(done.adapter.modules[module]) - own
        assert abs(_inner(own, rest)) <= 1e-6
        assert float((own.T @ rest).norm() / (own.norm() * rest.norm())) <= 1e-6
        assert float((own @ rest.T).norm() / (own.norm() * rest.norm())) <= 1e-6
        others = _sum(parts[1:], module)
        left = float(rest.norm() / others.norm())
        assert 0.3 < left < 1
    assert 0 < done.given_up.total < 1
    assert "orthogonal_to" in json.loads(done.adapter.metadata["lora_diffusion.blend"])


def test_an_adapter_inside_the_protected_one_vanishes():
    one = _adapter(0, shapes=_LINEAR)
    inside = replace(one, name="half", modules={name: replace(each, alpha=0.7) for name, each in one.modules.items()})
    done = blend([(one, 1.0), (inside, 1.0)], name="x", orthogonal_to=one)
    assert done.given_up.total == pytest.approx(1.0)
    module = next(iter(_LINEAR))
    assert _relative(_dense(done.adapter.modules[module]), _dense(one.modules[module])) <= 1e-6


def test_only_an_adapter_of_the_blend_can_be_protected():
    parts = _parts(1.0, 0.8)
    with pytest.raises(UsageError, match="none of the adapters"):
        blend(parts, name="x", orthogonal_to=_adapter(9, shapes=_SHAPES))


def _others():
    """One module each of LoHa, LoKr and a whole delta, 24 x 16."""
    draw = torch.Generator().manual_seed(3)

    def some(*shape):
        return torch.randn(*shape, generator=draw)

    loha = {"up2": some(24, 2), "down2": some(2, 16)}
    return {
        "loha": Weights(down=some(2, 16), up=some(24, 2), alpha=1.0, method="loha", extra=loha),
        "lokr": Weights(down=some(6, 4), up=some(4, 4), alpha=1.0, method="lokr"),
        "full": Weights(down=torch.empty(0), up=some(24, 16), alpha=1.0, method="full"),
    }


@pytest.mark.parametrize("kind", ["loha", "lokr", "full"])
@pytest.mark.parametrize("name", ["concat", "svd", "ties"])
def test_other_methods_take_part_by_their_deltas(kind, name):
    module, weights = next(iter(_LINEAR)), _others()[kind]
    other = replace(_adapter(0, shapes=_LINEAR), name=kind, modules={module: weights})
    lora = _adapter(1, shapes=_LINEAR)
    done = blend([(other, 0.5), (lora, 0.7)], name="x", method=name)
    meant = 0.5 * delta(weights).double() + _dense(lora.modules[module], 0.7)
    found = _relative(_dense(done.adapter.modules[module]), meant)
    assert done.report.layers[module] == pytest.approx(found, abs=1e-6)
    assert done.conversion.layers[module] <= 1e-6
    assert name == "ties" or found <= 1e-6


def test_the_low_rank_of_a_loha_is_the_square_of_its_own():
    module = next(iter(_LINEAR))
    other = replace(_adapter(0, shapes=_LINEAR), modules={module: _others()["loha"]})
    assert blend([(other, 1.0)], name="x").adapter.ranks == (4,)
    assert truncate(other, rank=2).ranks == (2,)


def test_what_no_low_rank_holds_is_refused_by_name():
    module, some = next(iter(_LINEAR)), torch.ones(24)
    norm = Weights(down=torch.empty(0), up=some, alpha=1.0, method="full")
    dora = replace(_adapter(0, shapes=_LINEAR).modules[module], extra={"dora_scale": torch.ones(24, 1)})
    for weights, error in ((norm, NotMergeable), (dora, UsageError)):
        other = replace(_adapter(0), name="other", modules={module: weights})
        with pytest.raises(error, match="other at denoiser"):
            blend([(other, 1.0)], name="x")


@pytest.mark.parametrize("name", ["concat", "svd"])
def test_changes_of_biases_add_up_in_a_blend(name, tmp_path):
    module, draw = next(iter(_LINEAR)), torch.Generator().manual_seed(8)
    lora = _adapter(1, shapes=_LINEAR).modules[module]
    found = [_others()["full"], replace(lora, extra={"bias": torch.randn(24, generator=draw)}), lora]
    found[0] = replace(found[0], extra={"bias": torch.randn(24, generator=draw)})
    parts = [
        (replace(_adapter(0), name=str(at), modules={module: each}), by)
        for at, (each, by) in enumerate(zip(found, (0.5, -0.7, 0.3), strict=True))
    ]
    done = blend_to_file(parts, tmp_path / "b.safetensors", method=name, rank=20 if name == "svd" else None)
    read = read_adapter(tmp_path / "b.safetensors").modules[module]
    meant = 0.5 * found[0].extra["bias"].double() - 0.7 * found[1].extra["bias"].double()
    assert torch.allclose(bias_delta(read).double(), meant, atol=1e-6)
    assert done.report.total <= 1e-6
    without = replace(done.blended.adapter, modules={module: replace(read, extra={})})
    change = 0.5 * delta(found[0]).double() - 0.4 * delta(lora).double()
    size = torch.hypot(change.norm(), meant.norm())
    assert blend_error(without, parts).total == pytest.approx(float(meant.norm() / size), rel=1e-5)


@pytest.mark.parametrize("name", ["concat", "magnitude"])
def test_a_decomposed_adapter_takes_part_with_its_base(name, tmp_path):
    base = pipeline_folder()
    module = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    weight = open_checkpoint(base).tensor(f"{module}.weight")
    lora = _adapter(1, shapes={module: tuple(weight.shape)})
    norms = weight.norm(dim=1, keepdim=True) * 1.3
    plain = _adapter(0, shapes={module: tuple(weight.shape)}).modules[module]
    dora = replace(lora, name="dora", modules={module: replace(plain, extra={"dora_scale": norms})})
    done = blend_to_file([(dora, 0.5), (lora, 0.7)], tmp_path / "b.safetensors", method=name, base=base)
    meant = 0.5 * delta(dora.modules[module], weight).double() + _dense(lora.modules[module], 0.7)
    found = _relative(_dense(done.blended.adapter.modules[module]), meant)
    assert done.report.total == pytest.approx(found, abs=1e-6)
    assert (found <= 1e-6) == (name == "concat")


def test_an_option_without_effect_is_refused_with_who_takes_it():
    with pytest.raises(UsageError, match="concat takes no density") as caught:
        blend(_parts(1.0), name="x", method="concat", density=0.5)
    assert "ties" in caught.value.hint


def test_errors_against_deltas_of_other_methods_are_the_dense_ones():
    module, weights = next(iter(_LINEAR)), _others()["lokr"]
    other = replace(_adapter(0), modules={module: weights})
    result = _adapter(1, shapes=_LINEAR)
    found = blend_error(result, [(other, 0.5)]).total
    assert found == pytest.approx(_relative(_dense(result.modules[module]), 0.5 * delta(weights).double()), rel=1e-6)
