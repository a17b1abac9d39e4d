"""Which weight is recommended, and how sure a difference is."""

import numpy as np
import pytest

from lora_diffusion.evaluation.score import Score, missing
from lora_diffusion.evaluation.statistics import interval, p_lower
from lora_diffusion.evaluation.weighing import best_weight

WEIGHTS = (0.4, 0.8, 1.2)


def scores(style, fit=(100, 100, 100), copied=()):
    def score(values, **details):
        return Score(value=values[-1], by_weight=dict(zip(WEIGHTS, values, strict=True)), details=details)

    return {
        "style_match": score(style),
        "prompt_fit": score(fit),
        "memorisation": score((1, 1, 1), copied_at=list(copied)),
    }


@pytest.mark.parametrize(
    ("found", "weight", "says"),
    [
        (scores((50, 70, 90)), 1.2, "still grows"),
        (scores((50, 90, 92)), 0.8, "hardly gains"),
        (scores((50, 80, 95), fit=(100, 100, 60)), 0.8, "from 120% on prompts are followed less"),
        (scores((50, 80, 95), copied=["1.2"]), 0.8, "training pictures are copied"),
        (scores((5, 10, 15)), None, "at no weight is it the style"),
        (scores((50, 80, 95), fit=(70, 60, 50)), None, "prompts are not followed"),
        (scores((50, 80, 95), copied=["0.4", "0.8", "1.2"]), None, "copied at every weight"),
    ],
)
def test_the_best_weight_is_the_closest_style_that_follows_prompts_and_copies_nothing(found, weight, says):
    best = best_weight(found, WEIGHTS)
    assert best.value == weight
    assert says in best.reason


def test_without_pictures_of_the_style_no_weight_is_made_up():
    best = best_weight({**scores((1, 2, 3)), "style_match": missing("give --data")}, WEIGHTS)
    assert best.value is None
    assert best.reason == "not measured: give --data"


def test_what_cannot_be_measured_forbids_no_weight():
    found = {**scores((50, 70, 90)), "prompt_fit": missing("more prompts"), "memorisation": missing("give --data")}
    assert best_weight(found, WEIGHTS).value == 1.2


def test_an_interval_holds_the_mean_of_noise_and_excludes_zero_for_an_effect():
    noise = np.random.default_rng(0).normal(size=40)
    assert not interval(noise - noise.mean(), seed=1).certain
    effect = interval(noise + 1, seed=1)
    assert effect.certain
    assert effect.low < effect.mean < effect.high
    assert effect == interval(noise + 1, seed=1)


def test_four_cases_are_too_few_to_be_certain():
    assert interval(np.ones(4), seed=0) is None


def test_the_permutation_test_finds_what_is_lower_and_nothing_else():
    draw = np.random.default_rng(0)
    usual = draw.normal(1, 0.1, 20)
    assert p_lower(draw.normal(0.5, 0.1, 10), usual, seed=0) < 0.01
    assert p_lower(draw.normal(1.5, 0.1, 10), usual, seed=0) > 0.9
    assert p_lower(usual[:1] / 100, usual, seed=0) == p_lower(usual, usual[:1], seed=0) == 1
