"""Blends equal the weighted sum of dense float64 deltas; cutting ranks is the best that a rank allows."""

import itertools
import json
import math
import time
from dataclasses import replace

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, VerificationFailed, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.generation.blend import Blend, blend, blend_error, collapse, require_one_family, truncate

_SHAPES = {"denoiser.a.to_q": (24, 16), "denoiser.a.conv1": (8, 6, 3, 3), "denoiser.a.proj_in": (8, 12, 1, 1)}


def _adapter(seed, rank=3, alpha=2.0, family="sd1", shapes=_SHAPES, metadata=None):
    draw = torch.Generator().manual_seed(seed)
    modules = {
        name: Weights(
            down=torch.randn(rank, *shape[1:], generator=draw),
            up=torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=draw),
            alpha=alpha,
        )
        for name, shape in shapes.items()
    }
    return Adapter(name=f"adapter{seed}", family=family, modules=modules, metadata=metadata or {})


def _dense(weights, weight=1.0):
    return weight * weights.alpha / weights.rank * (weights.up.double().flatten(1) @ weights.down.double().flatten(1))


def _sum(parts, name):
    return sum(_dense(adapter.modules[name], weight) for adapter, weight in parts if name in adapter.modules)


def _relative(result, meant):
    return float(torch.linalg.matrix_norm(result - meant) / torch.linalg.matrix_norm(meant))


_WEIGHTS = [(0.7, -0.3), (1.0, 1.0), (-2.0, 0.5), (0.05, 12.0)]
_RANKS = [(3, 3), (1, 8), (4, 2)]


@pytest.mark.parametrize(("weights", "ranks"), list(itertools.product(_WEIGHTS, _RANKS)))
def test_concat_is_the_weighted_sum_for_any_ranks_alphas_and_signs(weights, ranks):
    parts = [
        (_adapter(at, rank, alpha=1.0 + at), weight)
        for at, (weight, rank) in enumerate(zip(weights, ranks, strict=True))
    ]
    result = collapse(parts, name="sum")
    for name in _SHAPES:
        assert _relative(_dense(result.modules[name]), _sum(parts, name)) <= 1e-6
        assert result.modules[name].rank == sum(ranks)
        assert result.modules[name].scale == 1
    assert blend_error(result, parts).total <= 1e-6


def test_adding_factors_would_be_another_thing():
    parts = [(_adapter(0), 0.7), (_adapter(1), -0.4)]
    first, second = (adapter.modules["denoiser.a.to_q"] for adapter, _ in parts)
    wrong = Weights(down=0.7 * first.down - 0.4 * second.down, up=0.7 * first.up - 0.4 * second.up, alpha=first.alpha)
    assert _relative(_dense(wrong), _sum(parts, "denoiser.a.to_q")) > 0.3


def test_the_order_of_adapters_leaves_no_trace():
    parts = [(_adapter(0), 0.7), (_adapter(1, 5), -0.4), (_adapter(2, 1), 0.2)]
    prints = {collapse(order, name="sum").fingerprint for order in itertools.permutations(parts)}
    assert len(prints) == 1


def test_a_module_that_only_one_adapter_has_is_kept():
    alone = _adapter(1, shapes={"denoiser.b.to_q": (4, 4)})
    result = collapse([(_adapter(0), 1.0), (alone, 0.5)], name="sum")
    assert set(result.modules) == {*_SHAPES, "denoiser.b.to_q"}


def test_an_adapter_of_weight_0_adds_no_rank():
    assert collapse([(_adapter(0), 1.0), (_adapter(1), 0.0)], name="sum").ranks == (3,)


@pytest.mark.parametrize("rank", [1, 2, 4, 6])
def test_svd_at_a_rank_is_the_best_fit_of_the_dense_matrix(rank):
    parts = [(_adapter(0), 0.7), (_adapter(1), -0.4)]
    done = blend(parts, name="cut", method="svd", rank=rank)
    result, report = done.adapter, done.report
    for name in _SHAPES:
        meant = _sum(parts, name)
        values = torch.linalg.svdvals(meant)
        best = float(values[rank:].norm() / values.norm())
        assert _relative(_dense(result.modules[name]), meant) == pytest.approx(best, abs=1e-6)
        assert report.layers[name] == pytest.approx(best, abs=1e-6)
        assert result.modules[name].down.shape[1:] == parts[0][0].modules[name].down.shape[1:]
    assert max(result.ranks) == rank


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_keep_takes_the_smallest_rank_that_keeps_the_share(keep):
    parts = [(_adapter(0, 8), 0.7), (_adapter(1, 8), -0.4)]
    done = blend(parts, name="cut", keep=keep)
    result, report = done.adapter, done.report
    for name in _SHAPES:
        energy = torch.linalg.svdvals(_sum(parts, name)) ** 2
        shares = energy.cumsum(0) / energy.sum()
        assert result.modules[name].rank == int((shares < keep).sum()) + 1
    assert report.total <= math.sqrt(1 - keep) + 1e-6


def test_svd_without_a_limit_finds_what_is_there_twice():
    one = _adapter(0)
    done = blend([(one, 0.5), (replace(one, name="twin"), 0.25)], name="same", method="svd")
    assert done.adapter.ranks == (3,)
    assert done.report.total <= 1e-6


def test_adapters_that_cancel_leave_no_error_and_no_nan():
    done = blend([(_adapter(0), 1.0), (replace(_adapter(0), name="twin"), -1.0)], name="nothing")
    assert 0 <= done.report.total <= 1e-6


def test_errors_are_measured_without_the_full_matrix():
    big = {"denoiser.big.to_q": (20_000, 20_000)}  # 3.2 GB in float64
    parts = [(_adapter(0, 4, shapes=big), 1.0), (_adapter(1, 4, shapes=big), 1.0)]
    start = time.perf_counter()
    done = blend(parts, name="cut", rank=4)
    assert time.perf_counter() - start < 5
    assert 0.5 < done.report.total < 0.9


def test_an_error_per_module_and_in_total_is_the_dense_one():
    parts = [(_adapter(0), 0.7), (_adapter(1), -0.4)]
    report = blend_error(_adapter(0), parts)
    dense = {name: (_dense(_adapter(0).modules[name]), _sum(parts, name)) for name in _SHAPES}
    assert report.layers == pytest.approx({name: _relative(*pair) for name, pair in dense.items()})
    error = math.sqrt(sum(float((a - b).norm()) ** 2 for a, b in dense.values()))
    assert report.total == pytest.approx(error / math.sqrt(sum(float(b.norm()) ** 2 for _, b in dense.values())))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1"])
def test_a_weight_that_is_no_finite_number_is_refused(weight):
    with pytest.raises(UsageError, match="adapter0"):
        collapse([(_adapter(0), weight)], name="x")
    with pytest.raises(UsageError, match="style"):
        Blend({"style": weight})


def test_families_and_sizes_do_not_mix():
    with pytest.raises(WrongFamily, match="adapter1 is for sdxl"):
        collapse([(_adapter(0), 1.0), (_adapter(1, family="sdxl"), 1.0)], name="x")
    other = _adapter(1, shapes={"denoiser.a.to_q": (24, 32)})
    with pytest.raises(WrongFamily, match=r"denoiser\.a\.to_q"):
        collapse([(_adapter(0), 1.0), (other, 1.0)], name="x")
    with pytest.raises(WrongFamily, match="not for sd2"):
        require_one_family([_adapter(0)], "sd2")


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "linear"},
        {"method": "concat", "rank": 4},
        {"method": "svd", "rank": 4, "density": 0.5},
        {"method": "ties", "seed": 1},
        {"method": "dare", "density": 0.0},
        {"rank": 4, "keep": 0.9},
        {"rank": 0},
        {"keep": 0.0},
        {"keep": 1.5},
    ],
)
def test_a_request_that_cannot_be_met_says_so(request_):
    with pytest.raises(UsageError):
        blend([(_adapter(0), 1.0)], name="x", **request_)


def test_nothing_is_no_blend():
    with pytest.raises(UsageError):
        collapse([], name="x")
    with pytest.raises(UsageError, match="all weights are 0"):
        collapse([(_adapter(0), 0.0)], name="x")


def test_a_blend_is_a_mapping_that_never_changes():
    first = Blend({"a": 0.7})
    second = {**first, "b": -0.2}
    assert (dict(first), second) == ({"a": 0.7}, {"a": 0.7, "b": -0.2})
    with pytest.raises(TypeError):
        first["a"] = 1.0


def test_the_recipe_and_the_triggers_stay_with_the_result():
    parts = [
        (_adapter(0, metadata={"modelspec.trigger_phrase": "ink", "x": "same", "y": "1"}), 0.7),
        (_adapter(1, metadata={"modelspec.trigger_phrase": "paper", "x": "same", "y": "2"}), 0.2),
    ]
    result = collapse(parts, name="both")
    assert sorted(result.trigger.split(", ")) == ["ink", "paper"]
    assert result.metadata["x"] == "same"
    assert "y" not in result.metadata
    recipe = json.loads(result.metadata["lora_diffusion.blend"])
    assert recipe["method"] == "concat"
    assert {each["name"]: each["weight"] for each in recipe["parts"]} == {"adapter0": 0.7, "adapter1": 0.2}


def test_truncation_needs_one_limit():
    with pytest.raises(UsageError):
        truncate(_adapter(0))


@pytest.mark.parametrize("method", ["concat", "svd", "ties"])
def test_weights_too_large_for_any_number_name_the_module(method):
    with pytest.raises(VerificationFailed, match="becomes infinite with these adapters and weights"):
        blend([(_adapter(0), 1e300), (_adapter(1), 1.0)], name="x", method=method)
