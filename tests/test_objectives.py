"""Noised inputs, targets and weights against the formulas in float64."""

import pytest
import torch

from lora_diffusion.errors import BaseNotFound
from lora_diffusion.objectives import Epsilon, VPrediction, objective

ALPHAS = torch.cos(torch.linspace(0.02, 1.57, 50)).square()


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    shape = (4, 3, 2, 2)
    return torch.randn(shape, generator=draw), torch.randn(shape, generator=draw), torch.tensor([0, 7, 30, 49])


@pytest.mark.parametrize("name", ["epsilon", "v_prediction"])
def test_the_clean_picture_follows_from_input_and_target(name, batch):
    x, noise, t = batch
    goal = objective(name, ALPHAS)
    a = ALPHAS[t].view(-1, 1, 1, 1).sqrt()
    s = (1 - a.square()).sqrt()
    noisy, target = goal.noised(x, noise, t), goal.target(x, noise, t)
    # x = a * x_t - s * v, and a * x = x_t - s * noise
    clean = a * noisy - s * target if name == "v_prediction" else (noisy - s * target) / a
    assert torch.allclose(clean, x, atol=2e-3)


def test_min_snr_weights_are_those_of_the_paper(batch):
    t = batch[2]
    snr = (ALPHAS[t] / (1 - ALPHAS[t])).double()
    clamped = snr.clamp(max=5)
    assert torch.allclose(Epsilon(alphas_cumprod=ALPHAS).min_snr_weight(t, 5).double(), clamped / snr, rtol=1e-5)
    assert torch.allclose(
        VPrediction(alphas_cumprod=ALPHAS).min_snr_weight(t, 5).double(), clamped / (snr + 1), rtol=1e-5
    )


def test_min_snr_weights_stay_finite_where_there_is_no_signal_or_no_noise():
    ends = torch.tensor([1.0, 0.0])
    for goal in (Epsilon(alphas_cumprod=ends), VPrediction(alphas_cumprod=ends)):
        assert goal.min_snr_weight(torch.tensor([0, 1]), 5).isfinite().all()


def test_another_prediction_is_refused_with_the_known_ones():
    with pytest.raises(BaseNotFound, match="flow") as caught:
        objective("flow", ALPHAS)
    assert "epsilon" in caught.value.hint
