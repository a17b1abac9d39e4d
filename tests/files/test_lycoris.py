"""LoHa, LoKr, whole deltas, Tucker factors and DoRA: read, computed, converted, put into a model, written again."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.inject import Slot, eject, load
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile, NotMergeable, UsageError, WrongFamily
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.compare import compare
from lora_diffusion.files.dense import as_lora, bias_delta, delta
from lora_diffusion.files.factors import factors, norm
from lora_diffusion.lowrank import without_bias
from tests.files.lycoris import ALPHA, CASES, IN, KERNEL, LINEAR, NAMES, NORM, OUT, RANK, file_of
from tests.files.samples import save


def _read(tensors, path, name=None):
    save(tensors, path / "a.safetensors")
    adapter = read_adapter(path / "a.safetensors")
    return adapter, adapter.modules[name or next(iter(adapter.modules))]


def _far(one, other):
    return float((one.double() - other.double()).norm() / other.double().norm())


def _base(delta, seed=5):
    return torch.randn(delta.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES)
def test_the_delta_of_a_file_is_the_sum_of_its_products(case, tmp_path):
    tensors, name, meant = file_of(case)
    adapter, weights = _read(tensors, tmp_path, name)
    assert weights.method == CASES[case]["method"]
    assert weights.shape == tuple(meant.shape)
    assert delta(weights).dtype == torch.float32
    assert _far(delta(weights), meant) < 1e-6
    assert adapter.repairs == ()


@pytest.mark.parametrize("case", CASES)
def test_a_written_file_reads_back_bit_for_bit(case, tmp_path):
    adapter, _ = _read(file_of(case)[0], tmp_path)
    write_adapter(adapter, tmp_path / "b.safetensors", dtype="fp32")
    again = read_adapter(tmp_path / "b.safetensors")
    assert again.fingerprint == adapter.fingerprint
    assert again.metadata["ss_network_module"] == ("networks.lora" if case in ("lora", "locon") else "lycoris.kohya")


@pytest.mark.parametrize("case", CASES)
def test_factors_multiply_to_the_delta(case, tmp_path):
    tensors, name, meant = file_of(case)
    _, weights = _read(tensors, tmp_path, name)
    up, down = factors(weights, 0.5)
    assert _far(up @ down, meant.flatten(1) / 2) < 1e-6
    assert norm((up, down)) == pytest.approx(float(meant.norm()) / 2)


def _decomposed(base, change, axis):
    """Norms of W + change along the other axes, entry by entry."""
    whole = base.double() + change
    rows = whole.flatten(1) if axis == 0 else whole.transpose(0, 1).flatten(1)
    norms = torch.tensor([float(row.square().sum().sqrt()) for row in rows])
    shape = [-1 if at == axis else 1 for at in range(base.ndim)]
    return whole / norms.reshape(shape)


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("case", [case for case in CASES if "full" not in case])
def test_weight_decomposition_sets_the_norms_of_rows_or_columns(case, axis, tmp_path):
    tensors, name, change = file_of(case)
    shape = [-1 if at == axis else 1 for at in range(change.ndim)]
    norms = (torch.rand(change.shape[axis], generator=torch.Generator().manual_seed(1)) + 0.5).reshape(shape)
    key = next(iter(tensors)).partition(".")[0]
    _, weights = _read({**tensors, f"{key}.dora_scale": norms}, tmp_path, name)
    base = _base(change)
    assert _far(delta(weights, base), norms * _decomposed(base, change, axis) - base) < 1e-5
    assert not weights.is_plain
    with pytest.raises(UsageError) as caught:
        delta(weights)
    assert "base model" in caught.value.hint


def test_weight_decomposition_of_a_square_weight_goes_by_the_shape_of_its_norms(tmp_path):
    base, results = torch.randn(IN, IN, generator=torch.Generator().manual_seed(2)), []
    for shape in ((IN, 1), (1, IN)):
        extra = {"dora_scale": torch.ones(shape)}
        results.append(base + delta(Weights(up=torch.zeros(IN, 1), down=torch.ones(1, IN), alpha=1, extra=extra), base))
    assert torch.allclose(results[0].norm(dim=1), torch.ones(IN))
    assert torch.allclose(results[1].norm(dim=0), torch.ones(IN))


def test_a_base_of_another_size_is_refused():
    weights = Weights(up=torch.ones(4, 1), down=torch.ones(1, 4), alpha=1)
    with pytest.raises(WrongFamily, match=r"\(4, 4\)"):
        delta(weights, torch.ones(4, 5))


def test_norms_and_biases_are_whole_deltas_of_one_dimension(tmp_path):
    tensors = {f"{NORM}.w_norm": torch.arange(8.0), f"{NORM}.b_norm": torch.ones(8)}
    adapter, weights = _read(tensors, tmp_path, NAMES[NORM])
    assert (weights.method, delta(weights).tolist()) == ("full", list(range(8)))
    assert bias_delta(weights).tolist() == [1.0] * 8
    write_adapter(adapter, tmp_path / "b.safetensors", dtype="fp32")
    assert read_adapter(tmp_path / "b.safetensors").fingerprint == adapter.fingerprint


# Conversion to a plain LoRA


@pytest.mark.parametrize("case", CASES)
def test_without_a_limit_a_conversion_loses_only_rounding(case, tmp_path):
    tensors, name, meant = file_of(case)
    _, weights = _read({key: each for key, each in tensors.items() if "diff_b" not in key}, tmp_path, name)
    plain, error = as_lora(weights)
    assert plain.is_plain
    assert plain.shape == tuple(meant.shape)
    assert _far(delta(plain), meant) < 2e-6
    assert error < 1e-6


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("limit", [{"rank": 2}, {"keep": 0.8}], ids=["rank", "keep"])
def test_a_conversion_is_the_best_of_its_rank_and_says_its_error(case, limit, tmp_path):
    tensors, name, meant = file_of(case)
    _, weights = _read({key: each for key, each in tensors.items() if "diff_b" not in key}, tmp_path, name)
    plain, error = as_lora(weights, **limit)
    values = torch.linalg.svdvals(meant.flatten(1))
    best = float(values[plain.rank :].norm() / values.norm())
    assert error == pytest.approx(_far(delta(plain), meant), abs=1e-6)
    assert error == pytest.approx(best, abs=1e-6)
    if "keep" in limit:
        assert error**2 <= 1 - limit["keep"] + 1e-9
        assert float(values[plain.rank - 1 :].norm() / values.norm()) ** 2 > 1 - limit["keep"]
    else:
        assert plain.rank <= 2


def test_a_weight_decomposed_module_converts_with_its_base(tmp_path):
    weights = Weights(
        up=torch.randn(12, 2), down=torch.randn(2, 8), alpha=2, extra={"dora_scale": torch.rand(12, 1) + 1}
    )
    base = _base(torch.empty(12, 8))
    plain, error = as_lora(weights, base=base)
    assert _far(delta(plain), delta(weights, base)) < 2e-6
    assert error < 1e-6
    with pytest.raises(UsageError, match="base"):
        as_lora(weights)


def test_a_large_matrix_converts_close_to_the_best_and_always_the_same():
    draw = torch.Generator().manual_seed(0)
    up = torch.randn(1000, 40, generator=draw) @ torch.randn(40, 900, generator=draw)
    weights = Weights(method="full", up=up + torch.randn(1000, 900, generator=draw), down=torch.empty(0), alpha=900.0)
    plain, error = as_lora(weights, rank=32)
    values = torch.linalg.svdvals(weights.up)
    best = float(values[32:].norm() / values.norm())
    assert best - 1e-6 <= error <= 1.01 * best
    assert torch.equal(as_lora(weights, rank=32)[0].up, plain.up)


def test_a_plain_lora_that_is_small_enough_stays_as_it_is():
    weights = Weights(up=torch.ones(4, 2), down=torch.ones(2, 4), alpha=1)
    assert as_lora(weights, rank=2) == (weights, 0.0)
    assert as_lora(weights, rank=1)[0].rank == 1


def test_what_no_lora_can_hold_is_said():
    norms = Weights(method="full", up=torch.ones(4), down=torch.empty(0), alpha=1)
    with pytest.raises(NotMergeable):
        as_lora(norms)
    for wrong in ({"rank": 0}, {"keep": 0.0}, {"keep": 1.5}, {"rank": 2, "keep": 0.5}):
        with pytest.raises(UsageError):
            as_lora(Weights(up=torch.ones(4, 2), down=torch.ones(2, 4), alpha=1), **wrong)


# In a model


@pytest.mark.parametrize("decomposed", [False, True], ids=["", "decomposed"])
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_adapter_adds_its_delta_and_leaves_without_a_trace(case, decomposed, tmp_path):
    tensors, name, meant = file_of(case)
    if decomposed and "full" not in case:
        key = next(iter(tensors)).partition(".")[0]
        tensors[f"{key}.dora_scale"] = torch.full((OUT, *[1] * (meant.ndim - 1)), 2.0)
    _, weights = _read(tensors, tmp_path, name)
    torch.manual_seed(4)
    kernel = meant.ndim == 4
    model = nn.Sequential(nn.Conv2d(IN, OUT, 3, stride=2, padding=1) if kernel else nn.Linear(IN, OUT))
    x = torch.randn(2, IN, 6, 6) if kernel else torch.randn(2, 5, IN)
    slots = {"layer": Slot(parent=model, attribute="0")}
    base, before = model[0], model(x)
    load(slots, {"layer": weights}, name="a", weight=0.5)
    changed = nn.Sequential(nn.Conv2d(IN, OUT, 3, stride=2, padding=1) if kernel else nn.Linear(IN, OUT))
    changed.load_state_dict({"0.weight": base.weight, "0.bias": base.bias})
    changed[0].weight.data += 0.5 * delta(weights, base.weight.data)
    if (bias := bias_delta(weights)) is not None:
        changed[0].bias.data += 0.5 * bias
    with torch.no_grad():
        assert torch.allclose(model(x), changed(x), atol=2e-4, rtol=1e-4)
        assert not torch.allclose(model(x), before, atol=1e-2)
    eject(slots)
    assert model[0] is base


# What does not fit


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["method"] != "full"])
def test_each_missing_tensor_is_named(case, tmp_path):
    tensors, _, _ = file_of(case)
    optional = ("alpha", "lora_mid.weight", "lokr_t2", "diff_b")
    for gone in [key for key in tensors if not key.endswith(optional)]:
        rest = {key: each for key, each in tensors.items() if key != gone}
        save(rest, tmp_path / "a.safetensors")
        with pytest.raises(CorruptFile, match=r"has no .* tensor"):
            read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("case", [case for case in CASES if "lora" not in case])
def test_each_tensor_of_another_shape_is_refused(case, tmp_path):
    tensors, _, _ = file_of(case)
    for odd in [key for key in tensors if not key.endswith(("alpha", "diff"))]:
        for shape in ((0, 3), (5, 7), (1, *tensors[odd].shape), ()):
            if odd.endswith(("lokr_w1", "lokr_w2")) and shape == (5, 7):
                continue  # a product of any two matrices is a delta of some size
            if odd.endswith("diff_b") and 0 in shape and "full" not in case:
                continue  # nothing is added to the bias
            save({**tensors, odd: torch.ones(shape)}, tmp_path / "a.safetensors")
            with pytest.raises(CorruptFile):
                read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lora", "loha"),
        ("lokr", "lokr, second factored"),
        ("lokr, first factored", "lokr"),
        ("locon, Tucker", "loha of a kernel"),
        ("full", "lora"),
    ],
)
def test_tensors_of_two_methods_or_two_ways_at_one_module_are_refused(one, other, tmp_path):
    tensors = {**file_of(one)[0], **file_of(other)[0]}
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match="no method has together"):
        read_adapter(tmp_path / "a.safetensors")


def test_norms_of_another_length_are_refused(tmp_path):
    save({**file_of("lora")[0], f"{LINEAR}.dora_scale": torch.ones(5, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match="dora_scale"):
        read_adapter(tmp_path / "a.safetensors")


def test_a_small_file_with_a_delta_that_fills_the_memory_is_refused(tmp_path):
    tensors = {f"{KERNEL}.lokr_w1": torch.ones(3000, 1), f"{KERNEL}.lokr_w2": torch.ones(3000, 3000).half()}
    tensors = {key: each[:, :20] if "w2" in key else each for key, each in tensors.items()}
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match="larger than any layer"):
        read_adapter(tmp_path / "a.safetensors")


def test_other_dialects_say_that_they_hold_no_such_method(tmp_path):
    adapter, _ = _read(file_of("loha")[0], tmp_path)
    for dialect in ("diffusers", "peft"):
        with pytest.raises(UsageError) as caught:
            write_adapter(adapter, tmp_path / "b.safetensors", dialect=dialect)
        assert "kohya" in caught.value.hint


@pytest.mark.parametrize("dialect", ["diffusers", "peft"])
def test_a_bias_beside_a_lora_is_refused_by_dialects_without_a_name_for_it(dialect, tmp_path):
    adapter, _ = _read(file_of("lora and a bias")[0], tmp_path)
    with pytest.raises(UsageError, match=f"{dialect} has no name for a change of a bias, as {NAMES[LINEAR]}"):
        write_adapter(adapter, tmp_path / "b.safetensors", dialect=dialect)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_bias_without_a_weight_is_refused(tmp_path):
    save({**file_of("lora")[0], f"{KERNEL}.diff_b": torch.ones(OUT)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=rf"{NAMES[KERNEL]} has a change of the bias .* without one of the weight"):
        read_adapter(tmp_path / "a.safetensors")


def test_a_bias_that_is_lost_or_changed_is_an_error_of_a_conversion(tmp_path):
    _, weights = _read(file_of("lora and a bias")[0], tmp_path)
    assert compare({"x": weights}, {"x": weights}).total == 0
    assert compare({"x": without_bias(weights)}, {"x": weights}).total == 1
    half = replace(weights, extra={"bias": weights.extra["bias"] / 2})
    assert compare({"x": half}, {"x": weights}).total == pytest.approx(0.5)


def test_the_scale_is_alpha_over_the_rank(tmp_path):
    for case in ("lora", "loha", "lokr, second factored", "lokr, first factored"):
        _, weights = _read(file_of(case)[0], tmp_path)
        assert (weights.alpha, weights.rank, weights.scale) == (ALPHA, RANK, ALPHA / RANK)


def test_a_kernel_is_assumed_only_where_the_second_factor_has_columns_for_it(tmp_path):
    _, weights = _read({f"{KERNEL}.lokr_w1": torch.ones(3, 9), f"{KERNEL}.lokr_w2": torch.ones(4, 8)}, tmp_path)
    assert weights.shape == tuple(delta(weights).shape) == (12, 72)


@pytest.mark.parametrize("case", [case for case in CASES if "Tucker" in case])
def test_a_tucker_factor_of_another_rank_is_refused_though_it_would_be_broadcast(case, tmp_path):
    tensors, name, _ = file_of(case)
    middle = next(key for key in tensors if key.endswith(("lora_mid.weight", "hada_t1", "lokr_t2")))
    with pytest.raises(CorruptFile, match="do not multiply"):
        _read({**tensors, middle: tensors[middle][:1]}, tmp_path, name)
