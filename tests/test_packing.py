"""Packed convolutions are the same convolutions: same objects, same output, same gradients, and back again."""

import copy
import json

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.inject import eject, inject
from lora_diffusion.adapters.spec import AdapterSpec
from lora_diffusion.families.base import slots_of
from lora_diffusion.families.packing import can_pack, pack, unpack
from lora_diffusion.training.loop import train
from tests import tiny

pytestmark = pytest.mark.skipif(
    not can_pack(torch.device("cpu"), torch.bfloat16), reason="this torch has no packed convolutions"
)


def frozen(*arguments, dtype=torch.bfloat16, **options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(*arguments, **options)).to(dtype).requires_grad_(False)


def picture(channels, *size, samples=2):
    return torch.randn(samples, channels, *size, generator=torch.Generator().manual_seed(1)).bfloat16()


def run(model, x):
    x = x.detach().requires_grad_()
    y = model(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    return y.detach().float(), torch.autograd.grad((y.float() * weights).sum(), x)[0].float()


def far(found, exact):
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3, "padding": 1}, (16, 16)),
        ({"kernel_size": 3, "padding": 1}, (7, 12)),
        ({"kernel_size": 3}, (9, 9)),
        ({"kernel_size": 1}, (8, 8)),
        ({"kernel_size": (1, 3), "padding": (0, 1), "bias": False}, (8, 5)),
    ],
    ids=["3x3", "oblong", "no padding", "1x1", "1x3 without bias"],
)
def test_output_and_gradient_are_those_of_fp32_within_rounding(options, size):
    model = frozen(24, 40, **options)
    x = picture(24, *size)
    exact = run(copy.deepcopy(model).float(), x.float())
    plain = far(run(model, x), exact)
    assert pack(model) == ["0"]
    assert far(run(model, x), exact) < max(1.1 * plain, 1e-3) < 5e-3


def test_another_size_after_the_first_needs_no_second_packing():
    model = frozen(24, 40, 3, padding=1)
    exact = [run(copy.deepcopy(model).float(), picture(24, *size).float()) for size in ((16, 16), (8, 24), (3, 3))]
    pack(model)
    found = [run(model, picture(24, *size)) for size in ((16, 16), (8, 24), (3, 3))]
    assert all(far(*pair) < 5e-3 for pair in zip(found, exact, strict=True))


def test_packing_keeps_objects_and_state_and_unpack_is_its_inverse():
    model = frozen(24, 40, 3, padding=1)
    convolution, state, before = model[0], copy.deepcopy(model.state_dict()), run(model, picture(24, 8, 8))
    attributes = set(convolution.__dict__)
    pack(model)
    run(model, picture(24, 8, 8))
    assert model[0] is convolution
    assert isinstance(convolution, nn.Conv2d)
    assert list(model.state_dict()) == list(state)
    unpack(model)
    assert type(convolution) is nn.Conv2d
    assert set(convolution.__dict__) == attributes
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert all(torch.equal(a, b) for a, b in zip(run(model, picture(24, 8, 8)), before, strict=True))


@pytest.mark.parametrize(
    "model",
    [
        frozen(8, 8, 3, stride=2),
        frozen(8, 8, 3, dilation=2),
        frozen(8, 8, 3, groups=2),
        frozen(8, 8, 3, padding="same"),
        frozen(8, 8, 3, padding_mode="reflect", padding=1),
        frozen(8, 8, 3, dtype=torch.float32),
        frozen(8, 8, 3).requires_grad_(True),
    ],
    ids=["stride", "dilation", "groups", "same", "reflect", "fp32", "trained"],
)
def test_what_does_not_suit_stays_as_it_is(model):
    assert pack(model) == []
    assert type(model[0]) is nn.Conv2d


def test_an_adapter_trains_on_a_packed_convolution():
    model = frozen(24, 40, 3, padding=1)
    reference = copy.deepcopy(model)
    pack(model)
    found = []
    for each in (model, reference):
        slots = slots_of(each)
        inject(slots, AdapterSpec(rank=4, targets=("*",)), name="a", target_sets={})
        each(picture(24, 8, 8)).float().square().sum().backward()
        found.append(each[0].layer("a").up.grad)
        eject(slots)
    assert far(found[:1], found[1:]) < 1e-2


def test_the_graph_keeps_no_activation():
    model = frozen(24, 40, 3, padding=1)
    pack(model)
    model(picture(24, 8, 8))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        model(picture(24, 8, 8).requires_grad_())
    assert kept == []


def test_a_plan_can_do_without_and_differs_only_by_rounding(base, pictures, tmp_path):
    given = ("run.precision=bf16", "run.steps=1", "run.snapshot_every=0")
    plans = [tiny.plan(base, pictures, tmp_path / on, *given, f"run.pack_weights={on}") for on in ("true", "false")]
    packed, plain = (json.loads((train(plan).run / "metrics.jsonl").read_text()) for plan in plans)
    assert packed["norm"] != plain["norm"]
    assert packed["loss"] == pytest.approx(plain["loss"], rel=1e-2)
    assert packed["norm"] == pytest.approx(plain["norm"], rel=5e-2)
