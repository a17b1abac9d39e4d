"""Adapters go in beside frozen modules, change nothing at weight 0, and come out without a trace."""

import copy

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.inject import Slot, eject, inject, injected, load, set_weights, trained_weights
from lora_diffusion.adapters.methods.lora import LoRA, delta_weight
from lora_diffusion.adapters.spec import AdapterSpec, Weights
from lora_diffusion.errors import PlanError, TargetError, WrongFamily
from lora_diffusion.families.base import slots_of

SETS = {"linear": ("*.first", "*.last"), "conv": ("*.conv", "*.point", "*.strided")}


class Toy(nn.Module):
    """Linear, 1x1, kxk and strided convolutions in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.point = nn.Conv2d(4, 4, 1)
        self.strided = nn.Conv2d(4, 2, 3, stride=2, padding=1)
        self.last = nn.Linear(8, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).view(-1, 1, 2, 4)
        y = self.strided(self.point(torch.tanh(self.conv(y))).repeat(1, 1, 2, 2))
        return self.last(y.flatten(1)[:, :8])


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().requires_grad_(False)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def slots(model: nn.Module) -> dict[str, Slot]:
    return slots_of(model, "denoiser.")


def random_weights(model: nn.Module, rank: int, seed: int) -> dict[str, Weights]:
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for name, slot in slots(model).items():
        shape = slot.base.weight.shape
        found[name] = Weights(
            down=torch.randn(rank, *shape[1:], generator=draw),
            up=torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=draw),
            alpha=float(rank) / 2,
        )
    return found


def test_a_fresh_adapter_changes_nothing(toy, x):
    before = toy(x)
    assert len(inject(slots(toy), AdapterSpec(rank=2, targets=("linear", "conv")), name="a", target_sets=SETS)) == 5
    assert torch.equal(toy(x), before)


def test_eject_is_the_exact_inverse_of_inject(toy, x):
    modules, state, before = dict(toy.named_modules()), copy.deepcopy(toy.state_dict()), toy(x)
    load(slots(toy), random_weights(toy, 2, 1), name="a", weight=0.7)
    load(slots(toy), random_weights(toy, 3, 2), name="b", weight=-0.4)
    assert not torch.allclose(toy(x), before)
    eject(slots(toy))
    assert list(toy.state_dict()) == list(state)
    assert all(torch.equal(toy.state_dict()[key], value) for key, value in state.items())
    assert dict(toy.named_modules()) == modules
    assert torch.equal(toy(x), before)


def test_with_all_weights_zero_the_output_is_bit_equal(toy, x):
    before = toy(x)
    load(slots(toy), random_weights(toy, 2, 1), name="a")
    load(slots(toy), random_weights(toy, 3, 2), name="b")
    set_weights(slots(toy), {"a": 0.0, "b": 0.0})
    with torch.no_grad():
        assert torch.equal(toy(x), before)


def test_live_and_merged_agree(toy, x):
    parts = [(random_weights(toy, 2, 1), 0.8), (random_weights(toy, 3, 2), -0.5)]
    merged = copy.deepcopy(toy)
    for name, slot in slots(merged).items():
        for weights, by in parts:
            slot.base.weight.data += by * delta_weight(weights[name], slot.base.weight.shape)
    for number, (weights, by) in enumerate(parts):
        load(slots(toy), weights, name=f"style {number}.x", weight=by)
    with torch.no_grad():
        assert torch.allclose(toy(x), merged(x), rtol=1e-5, atol=1e-5)
    assert torch.allclose(toy(x), merged(x), rtol=1e-5, atol=1e-5)  # the path with gradients


def test_merged_weight_of_a_layer_is_its_live_effect(toy, x):
    weights = random_weights(toy, 2, 3)["denoiser.first"]
    layer = LoRA.from_weights(weights, toy.first)
    live = toy.first(x) + 0.3 * layer.delta(x, toy.first(x), toy.first)
    merged = nn.functional.linear(x, layer.merged_weight(toy.first.weight, 0.3), toy.first.bias)
    assert torch.allclose(live, merged, atol=1e-5)


def test_a_weight_changes_in_place_between_two_calls(toy, x):
    load(slots(toy), random_weights(toy, 2, 1), name="a")
    buffer = toy.first.weights
    with torch.no_grad():
        full = toy(x)
        set_weights(slots(toy), {"a": 0.25})
        assert not torch.equal(toy(x), full)
        set_weights(slots(toy), {"a": 1.0})
        assert torch.equal(toy(x), full)
    assert toy.first.weights is buffer


def test_what_was_trained_after_a_picture_shows_in_the_next_one(toy, x):
    load(slots(toy), random_weights(toy, 2, 1), name="a")
    with torch.no_grad():
        before = toy(x)
    toy(x).sum().backward()
    with torch.no_grad():
        toy.first.layers[0].up.add_(1.0)
        assert not torch.equal(toy(x), before)


def test_one_node_has_the_gradients_of_the_written_out_sum(toy, x):
    weights = random_weights(toy, 2, 1)["denoiser.first"]
    for needs in (True, False):
        a, b = LoRA.from_weights(weights, toy.first), LoRA.from_weights(weights, toy.first)
        xa, xb = x.clone().requires_grad_(needs), x.clone().requires_grad_(needs)
        ya, yb = a.trained(xa, toy.first), toy.first(xb) + b.delta(xb, xb, toy.first)
        assert torch.allclose(ya, yb, atol=1e-6)
        ya.square().sum().backward()
        yb.square().sum().backward()
        for mine, plain in ((a.down.grad, b.down.grad), (a.up.grad, b.up.grad), (xa.grad, xb.grad)):
            assert (mine is None and plain is None) or torch.allclose(mine, plain, atol=1e-4, rtol=1e-5)


def test_dropout_acts_in_training_only(toy, x):
    inject(slots(toy), AdapterSpec(rank=2, targets=("linear",), dropout=0.5), name="a", target_sets=SETS)
    toy.first.layers[0].up.data.normal_()
    toy.train()
    torch.manual_seed(3)
    first = toy.first(x)
    assert not torch.equal(toy.first(x), first)
    toy.eval()
    assert torch.equal(toy.first(x), toy.first(x))


def test_patterns_and_ranks_of_their_own(toy):
    spec = AdapterSpec(rank=4, targets=("denoiser.*",), ranks={"linear": 2, "denoiser.first": 3, "denoiser.conv": 1})
    spec = spec.model_copy(update={"ranks": {**spec.ranks, "denoiser.strided": 2}})
    inject(slots(toy), spec, name="a", target_sets=SETS)
    ranks = {name.removeprefix("denoiser."): weights.rank for name, weights in trained_weights(slots(toy), "a").items()}
    assert ranks == {"first": 3, "conv": 1, "point": 4, "strided": 2, "last": 2}
    assert {weights.scale for weights in trained_weights(slots(toy), "a").values()} == {1.0}


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        (AdapterSpec(targets=("atention",), rank=2), TargetError, "atention"),
        (
            AdapterSpec(targets=("linear",), rank=7),
            TargetError,
            r"rank 7 exceeds 6, the smaller side of denoiser\.first",
        ),
        (AdapterSpec(targets=("linear",), rank=2, ranks={"conv": 2}), TargetError, "conv"),
        (AdapterSpec(targets=("linear",), rank=2, method="lora2"), PlanError, "lora2"),
    ],
)
def test_a_spec_that_cannot_be_met_changes_nothing(toy, spec, error, says):
    modules = dict(toy.named_modules())
    with pytest.raises(error, match=says) as caught:
        inject(slots(toy), spec, name="a", target_sets=SETS)
    assert caught.value.hint
    assert dict(toy.named_modules()) == modules


def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(toy):
    modules, weights = dict(toy.named_modules()), random_weights(toy, 2, 1)
    odd = Weights(down=torch.randn(2, 7), up=torch.randn(5, 2), alpha=2)
    for bad in ({**weights, "denoiser.last": odd}, {**weights, "denoiser.absent": odd}):
        with pytest.raises(WrongFamily, match=r"denoiser\.(last|absent)"):
            load(slots(toy), bad, name="a")
        assert dict(toy.named_modules()) == modules


def test_a_name_is_used_once(toy):
    load(slots(toy), random_weights(toy, 2, 1), name="a")
    with pytest.raises(TargetError, match="already"):
        load(slots(toy), random_weights(toy, 2, 1), name="a")


def test_injected_leaves_the_model_as_it_was_also_after_an_error(toy):
    modules = dict(toy.named_modules())
    with pytest.raises(KeyError), injected(slots(toy), random_weights(toy, 2, 1), name="a"):
        raise KeyError
    assert dict(toy.named_modules()) == modules


def test_library_code_still_reads_the_base_through_the_wrapper(toy):
    load(slots(toy), random_weights(toy, 2, 1), name="a")
    assert toy.first.in_features == 6
    assert toy.strided.stride == (2, 2)
    assert toy.first.weight is toy.first.base.weight
    assert next(toy.first.parameters()) is toy.first.base.weight


def test_the_same_tensors_give_the_output_of_peft(toy, x):
    from peft import LoraConfig, inject_adapter_in_model

    theirs = copy.deepcopy(toy)
    names = [name.removeprefix("denoiser.") for name in slots(toy)]
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=1, target_modules=names, init_lora_weights=False), theirs)
    weights = random_weights(toy, 2, 5)
    for name in names:
        module = theirs.get_submodule(name)
        module.lora_A["default"].weight.data.copy_(weights[f"denoiser.{name}"].down)
        module.lora_B["default"].weight.data.copy_(weights[f"denoiser.{name}"].up)
    load(slots(toy), weights, name="a")
    with torch.no_grad():
        assert torch.allclose(toy(x), theirs(x), atol=1e-6, rtol=1e-6)
    assert torch.allclose(toy(x), theirs(x), atol=1e-6, rtol=1e-6)
