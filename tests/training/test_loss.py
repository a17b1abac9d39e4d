"""The loss of each sample: over a mask, against the picture or against the base model's own answer."""

import pytest
import torch

from lora_diffusion.adapters.inject import eject, inject
from lora_diffusion.adapters.spec import AdapterSpec
from lora_diffusion.training.data import MicroBatch
from lora_diffusion.training.loss import LossModule
from lora_diffusion.training.plan import LossPlan

COUNT = 3


def module(loaded, train_text=False):
    return LossModule(*loaded, LossPlan(), train_text=train_text)


def batch(loaded, **more):
    family, components = loaded
    draw = torch.Generator().manual_seed(0)
    tokens = family.tokenize(components, ["a star", "a key", ""])
    with torch.no_grad():
        text = dict(family.encode_tokens(components, tokens))
    given = {
        "latents": torch.randn(COUNT, 4, 16, 16, generator=draw),
        "noise": torch.randn(COUNT, 4, 16, 16, generator=draw),
        "timesteps": torch.tensor([100, 500, 900]),
        "text": text,
        "weights": torch.ones(COUNT),
    }
    return MicroBatch(**given | more)


@pytest.fixture
def adapted(loaded):
    """An adapter with an effect on denoiser and text encoder; taken out again afterwards."""
    family, components = loaded
    slots = family.slots(components)
    spec = AdapterSpec(rank=4, targets=("attention", "text"))
    targets = inject(slots, spec, name="trained", target_sets=family.targets)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for target in targets:
            up = slots[target].module.layer("trained").up
            up.copy_(torch.randn(up.shape, generator=draw) * 0.2)
    yield {target: slots[target].module.layer("trained") for target in targets}
    eject(slots)


def squares(loaded, piece):
    family, components = loaded
    noisy = components.objective.noised(piece.latents, piece.noise, piece.timesteps)
    return (family.predict(components, noisy, piece.timesteps, piece.text) - piece.noise).square()


def test_a_white_mask_changes_nothing(loaded):
    plain = module(loaded)(batch(loaded))
    masked = module(loaded)(batch(loaded, masks=torch.ones(COUNT, 16, 16)))
    torch.testing.assert_close(masked, plain)


def test_a_mask_takes_the_mean_over_what_it_shows(loaded):
    masks = torch.zeros(COUNT, 16, 16)
    masks[0, :, :1], masks[1, :8], masks[2] = 1, 0.5, 1  # a strip, half the picture at half weight, all
    piece = batch(loaded, masks=masks)
    errors = squares(loaded, piece)
    expected = torch.stack([errors[0, :, :, :1].mean(), errors[1, :, :8].mean(), errors[2].mean()])
    torch.testing.assert_close(module(loaded)(piece), expected)


def test_a_sample_of_weight_zero_adds_nothing(loaded):
    found = module(loaded)(batch(loaded, weights=torch.tensor([1.0, 0.0, 1.0])))
    assert found[1] == 0
    assert found[0] > 0


@pytest.mark.parametrize("train_text", [False, True])
def test_the_base_answers_as_if_there_were_no_adapter(loaded, train_text, request):
    family, components = loaded
    piece = batch(loaded, base_answers=True)
    if train_text:
        piece = batch(loaded, base_answers=True, text=family.tokenize(components, ["a star", "a key", ""]))
    noisy = components.objective.noised(piece.latents, piece.noise, piece.timesteps)
    with torch.no_grad():
        text = family.encode_tokens(components, piece.text) if train_text else piece.text
        untouched = family.predict(components, noisy, piece.timesteps, text)
    request.getfixturevalue("adapted")
    made = module(loaded, train_text)
    assert torch.equal(made._base_answer(noisy, piece.timesteps, piece.text), untouched)
    assert not torch.equal(made._answer(noisy, piece.timesteps, piece.text), untouched)


def test_asking_the_base_leaves_the_adapter_in_its_place(loaded, adapted):
    made, plain = module(loaded), batch(loaded)
    before, names = made(plain), [name for name, _ in made.named_parameters()]
    made(batch(loaded, base_answers=True)).sum().backward()
    assert [name for name, _ in made.named_parameters()] == names
    assert torch.equal(made(plain), before)
    assert all(layer.up.grad is not None for name, layer in adapted.items() if name.startswith("denoiser"))


def test_the_loss_against_the_base_is_zero_until_something_is_learnt(loaded, request):
    piece = batch(loaded, base_answers=True)
    assert module(loaded)(piece).max() < 1e-10  # the kernels with and without gradients differ in rounding
    request.getfixturevalue("adapted")
    assert module(loaded)(piece).min() > 1e-6
