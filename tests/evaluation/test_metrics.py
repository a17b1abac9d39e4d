"""Every metric on pictures whose answer is known; and what all that are found have in common."""

import json

import numpy as np
import pytest

from lora_diffusion.evaluation.evidence import Mix
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.files.adapter import Adapter
from tests.evaluation.made import (
    KITCHEN,
    PAPER,
    PLAIN,
    PRINT,
    SHAPES,
    KnowingDenoiser,
    drawn,
    evidence,
    given,
    mixed,
    picture,
)

METRICS = {each.name: each for each in metrics()}
OTHER = Adapter(name="print", family="sd1", modules={})


def measured(name, **more):
    return METRICS[name].measure(evidence(**more))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.title
    assert len(metric.means.split()) >= 15
    assert metric.means.endswith(".")


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_gives_plain_json_and_the_same_each_time(name):
    found = [
        METRICS[name].measure(evidence(against=OTHER, other=drawn(lambda word: picture(word, PRINT)))) for _ in "ab"
    ]
    texts = [json.dumps(each.to_dict(), allow_nan=False) for each in found]
    assert texts[0] == texts[1]
    assert (found[0].value is None) == bool(found[0].missing)
    assert found[0].value is None or found[0].verdict.endswith(".")


@pytest.mark.parametrize("name", METRICS)
def test_what_was_not_given_is_not_measured(name):
    bare = measured(name, plain=None, training=None, held_out=None, prompts=evidence().prompts[:1])
    if name == "response":  # needs nothing
        assert bare.value is not None
        return
    assert bare.value is None
    assert bare.missing.startswith("not measured: ")
    assert not bare.verdict


def test_the_style_matches_its_own_pictures_the_more_the_more_weight_it_has():
    score = measured("style_match")
    assert list(score.by_weight.values()) == sorted(score.by_weight.values())
    assert score.by_weight[0.5] < 80 < 90 < score.value <= 100
    assert score.tone == "good"


@pytest.mark.parametrize(
    "draw",
    [
        lambda word: picture(word, PLAIN, seed=9),
        lambda word: picture(word, PRINT),
        lambda word: np.random.default_rng(list(word.encode())).integers(0, 256, (64, 64, 3)).astype(np.uint8),
        lambda word: np.full((64, 64, 3), 128, np.uint8),
    ],
    ids=["base model", "another style", "noise", "grey"],
)
def test_what_is_another_style_does_not_match(draw):
    score = measured("style_match", sweep={1.0: drawn(draw)})
    assert score.value < 30
    assert score.tone == "bad"


def test_the_base_is_the_zero_and_the_set_itself_the_hundred_of_the_style_match():
    scale = {1.0: evidence().base}
    assert measured("style_match", sweep=scale).value == pytest.approx(0, abs=1e-9)
    own = drawn(lambda word: picture(KITCHEN[SHAPES.index(word)], PAPER, seed=3))
    assert measured("style_match", sweep={1.0: own}).value > 95


def test_a_base_model_that_draws_the_style_already_leaves_nothing_to_measure():
    score = measured("style_match", base=drawn(lambda word: picture(word, PAPER)), training=given(SHAPES, PAPER))
    assert score.value is None
    assert "already" in score.missing


def test_too_few_pictures_of_the_style_are_not_compared():
    assert "1 of the 4" in measured("style_match", training=given(KITCHEN[:1], PAPER)).missing


def test_pictures_of_what_was_asked_for_fit_their_prompts_and_others_do_not():
    assert measured("prompt_fit").value == 100
    wrong = drawn(lambda word: mixed(SHAPES[(SHAPES.index(word) + 2) % len(SHAPES)], PAPER, 1.0))
    score = measured("prompt_fit", sweep={1.0: wrong})
    assert score.value == 0
    assert score.tone == "bad"


def test_prompts_that_the_base_model_does_not_follow_say_nothing_of_the_adapter():
    blank = drawn(lambda word: np.full((64, 64, 3), 200, np.uint8))
    assert "does not tell" in measured("prompt_fit", base=blank).missing


def test_new_pictures_are_no_copies_and_copies_are_named():
    assert not measured("memorisation").details["copied"]
    copies = drawn(lambda word: picture(KITCHEN[SHAPES.index(word)], PAPER, seed=50))
    score = measured("memorisation", sweep={0.5: evidence().sweep[0.5], 1.0: copies})
    assert score.value < 0.1
    assert score.details["copied_at"] == ["1"]
    assert score.details["p"] < 0.01
    assert score.tone == "bad"


def test_a_single_copy_among_new_pictures_is_named():
    one = drawn(lambda word: picture("fork" if word == "tent" else word, PAPER, seed=50))
    score = measured("memorisation", sweep={1.0: one})
    assert score.details["copied"]
    assert score.details["closest"]["training_picture"] == "fork.png"
    assert score.details["closest"]["prompt"] == "zzz, tent"


def test_an_adapter_that_draws_its_only_training_picture_is_told():
    """The style of one picture cannot be compared with itself; what the base model draws is the measure then."""
    always = drawn(lambda word: picture("cup", PAPER, seed=50 + SHAPES.index(word)))
    assert measured("memorisation", training=given(KITCHEN[:1], PAPER), sweep={1.0: always}).details["copied"]
    assert not measured("memorisation", training=given(KITCHEN[:1], PAPER)).details["copied"]


def test_the_gain_on_new_pictures_is_what_the_denoiser_gains():
    score = measured("held_out_gain")
    assert score.value == pytest.approx(20)
    assert all(each == pytest.approx(20) for each in score.details["by_band"].values())
    assert score.details["training_minus_held_out"] == pytest.approx(0, abs=1e-9)
    assert score.tone == "good"


def test_an_adapter_that_harms_new_pictures_is_told():
    assert measured("held_out_gain", denoiser=KnowingDenoiser(gain=-0.1)).tone == "bad"


def test_learning_by_heart_is_told_by_the_gap_to_the_training_pictures():
    class ByHeart(KnowingDenoiser):
        def losses(self, mix, questions):
            known = np.array([any(word in each.words for word in KITCHEN) for each in questions])
            return super().losses(Mix(), questions) * (1 - mix.adapter * np.where(known, 0.6, 0.05))

    score = measured("held_out_gain", denoiser=ByHeart())
    assert score.details["training_minus_held_out"] == pytest.approx(55)
    assert score.tone == "warns"


@pytest.mark.parametrize(("share", "tone"), [(0.1, "good"), (0.9, "warns")])
def test_drift_is_the_change_of_prompts_without_the_trigger(share, tone):
    score = measured("drift", plain=drawn(lambda word: mixed(word, PAPER, share)))
    assert score.value == pytest.approx(100 * share, abs=12)
    assert score.tone == tone


def test_the_weight_is_a_dial_where_more_of_it_changes_more():
    assert measured("response").tone == "good"
    sweep = evidence().sweep
    turned = measured("response", sweep={0.5: sweep[1.0], 1.0: sweep[0.5]})
    assert turned.details["grows_with_the_weight"] is False
    assert turned.tone == "warns"
    assert measured("response", zero_is_base=False).tone == "warns"


@pytest.mark.parametrize(("extra", "expected"), [(0.0, 0.0), (1.0, 3**-0.5), (10.0, 10 / 102**0.5)])
def test_interference_is_what_two_adapters_do_beyond_their_sum(extra, expected):
    score = measured("interference", against=OTHER, denoiser=KnowingDenoiser(extra=extra))
    assert score.value == pytest.approx(expected, rel=1e-5)


def test_a_comparison_is_certain_only_where_the_range_excludes_zero():
    better = measured("comparison", against=OTHER, other=drawn(lambda word: mixed(word, PAPER, 0.5)))
    style = better.details["style match"]
    assert style["certain"]
    assert style["interval"][0] > 0
    assert "paper has the better style match" in better.verdict
    same = measured("comparison", against=OTHER, other=evidence().sweep[1.0], held_out=None)
    assert "No certain difference" in same.verdict
    assert not any(each["certain"] for each in same.details.values())


def test_a_clip_model_of_a_folder_gives_one_more_opinion(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    from tests.tiny import _tokenizer

    tokenizer = _tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    heads = {"num_attention_heads": 2, "projection_dim": 8}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    CLIPModel(
        CLIPConfig(text_config=text | heads | ends, vision_config=vision | heads, projection_dim=8)
    ).save_pretrained(tmp_path)
    small = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**small), tokenizer).save_pretrained(tmp_path)
    score = measured("clip_score", clip=tmp_path)
    assert -100 <= score.value <= 100
    assert set(score.by_weight) == {0.5, 0.75, 1.0}
