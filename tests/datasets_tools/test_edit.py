import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.edit import tags_of, vary_tags
from datasets_tools.errors import InvalidSetting

TAGS = "brndx, a house, red roof, clouds, tall tree"


def numbers(seed):
    draw = random.Random(seed)
    return iter(draw.random, 2.0)


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("a, b ,, c,", ("a", "b", "c")),
        ("", ()),
        (" , ", ()),
        ("1,000 houses, 2 cats", ("1,000 houses", "2 cats")),
        ("1girl,2cats", ("1girl", "2cats")),
        ("猫，犬、鳥", ("猫", "犬", "鳥")),
        ("{a}, (b:1.2), __c__", ("{a}", "(b:1.2)", "__c__")),
    ],
)
def test_tags_are_what_stands_between_commas(caption, tags):
    assert tags_of(caption) == tags


def test_shuffled_tags_are_the_same_tags_with_the_first_kept():
    orders = {vary_tags(TAGS, keep=1, shuffle=True, dropout=0.0, numbers=numbers(seed)) for seed in range(200)}
    assert len(orders) == 24  # 4 loose tags
    assert all(order.startswith("brndx, ") for order in orders)
    assert {tuple(sorted(tags_of(order))) for order in orders} == {tuple(sorted(tags_of(TAGS)))}


def test_dropped_tags_go_with_their_probability_and_the_order_stays():
    counts = Counter()
    for seed in range(2000):
        left = tags_of(vary_tags(TAGS, keep=2, shuffle=False, dropout=0.25, numbers=numbers(seed)))
        assert list(left) == [tag for tag in tags_of(TAGS) if tag in left]
        counts.update(left)
    assert counts["brndx"] == counts["a house"] == 2000
    for tag in ("red roof", "clouds", "tall tree"):
        assert counts[tag] == pytest.approx(1500, abs=80)  # 4 standard deviations


def test_the_order_does_not_depend_on_what_is_left_out():
    whole = tags_of(vary_tags(TAGS, keep=0, shuffle=True, dropout=0.0, numbers=numbers(7)))
    part = tags_of(vary_tags(TAGS, keep=0, shuffle=True, dropout=0.5, numbers=numbers(7)))
    assert 0 < len(part) < len(whole)
    assert list(part) == [tag for tag in whole if tag in part]


def test_a_caption_with_nothing_to_vary_is_returned_as_it_is():
    assert vary_tags("a,b ,c", keep=0, shuffle=False, dropout=0.0, numbers=()) == "a,b ,c"
    assert vary_tags("a,b ,c", keep=3, shuffle=True, dropout=1.0, numbers=()) == "a,b ,c"
    assert vary_tags("", keep=0, shuffle=True, dropout=1.0, numbers=()) == ""


def test_everything_can_be_left_out_but_what_is_kept():
    assert vary_tags(TAGS, keep=1, shuffle=True, dropout=1.0, numbers=numbers(0)) == "brndx"


@pytest.mark.parametrize("wrong", [{"keep": -1}, {"dropout": 1.1}, {"dropout": float("nan")}, {"numbers": [0.5] * 9}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(InvalidSetting) as refused:
        vary_tags(TAGS, **({"keep": 0, "shuffle": True, "dropout": 0.5, "numbers": itertools.repeat(0.5)} | wrong))
    assert refused.value.hint


@given(st.text(), st.integers(0, 9), st.booleans(), st.floats(0, 1), st.integers())
def test_varying_any_text_only_takes_and_moves_tags(caption, keep, shuffle, dropout, seed):
    varied = vary_tags(caption, keep=keep, shuffle=shuffle, dropout=dropout, numbers=numbers(seed))
    assert Counter(tags_of(varied)) <= Counter(tags_of(caption))
    assert tags_of(varied)[:keep] == tags_of(caption)[:keep]
