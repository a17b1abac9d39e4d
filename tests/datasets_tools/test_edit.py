import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.edit import (
    EDITS,
    Append,
    Dropout,
    Normalise,
    Prepend,
    Remove,
    Replace,
    Shuffle,
    Trigger,
    edited,
    tags_of,
    vary_tags,
)
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


def apply(edit, text, file="a.png", seed=0):
    return edit.apply(text, file=file, seed=seed)


EDITED = [
    (Prepend(text="brndx"), "a house", "brndx, a house"),
    (Prepend(text="a photo of", joiner=" "), "a house", "a photo of a house"),
    (Prepend(text="brndx"), "", "brndx"),
    (Append(text="at night"), "a house", "a house, at night"),
    (Append(text="at night"), "", "at night"),
    (Replace(old="cat", new="dog"), "cat, category, Cat", "dog, dogegory, Cat"),
    (Replace(old="cat", new="dog", whole_words=True), "cat, category, Cat", "dog, category, Cat"),
    (Replace(old="cat", new="dog", match_case=False), "cat, Cat", "dog, dog"),
    (Replace(old="(x:1.2)", new="{y}"), "a (x:1.2)", "a {y}"),
    (Replace(old="a.c", new="z"), "abc a.c", "abc z"),
    (Replace(old="c++", new="x", whole_words=True), "c++ code, c++11", "x code, c++11"),
    (Replace(old="x", new=r"\1 \g<0> \n"), "x", r"\1 \g<0> \n"),
    (Replace(old=r"(\w+) house", new=r"house, \1", regex=True), "a red house", "a house, red"),
    (Replace(old=r"^a |\d+", regex=True), "a house 12", "house "),
    (Remove(text="red roof"), "a house, Red roof , red roofs", "a house, red roofs"),
    (Remove(text="red"), "red house,red", "red house"),
    (Remove(text="red"), "a house ,  tall", "a house ,  tall"),
    (Remove(text="red", inside=True), "a Red house, red, redder", "a house, redder"),
    (Remove(text="cat"), "cat", ""),
    (Trigger(trigger="brndx"), "a house", "brndx, a house"),
    (Trigger(trigger="brndx"), "a house, Brndx, tall", "brndx, a house, tall"),
    (Trigger(trigger="brndx"), "a brndx house", "a brndx house"),
    (Trigger(trigger="brndx"), "", "brndx"),
    (Trigger(trigger="new", old="old"), "old, a house", "new, a house"),
    (Trigger(trigger="new", old="old"), "an Old house, older", "an new house, older"),
    (Trigger(trigger="new", old="old"), "a house", "new, a house"),
    (Trigger(trigger=r"a\1b", old="old"), "old, x", r"a\1b, x"),
    (Normalise(), "red_roof ,Red roof,, a   cat，dog、 bird", "red roof, a cat, dog, bird"),
    (Normalise(), "__card__, o_o, >_<, {a_b}", "__card__, o_o, >_<, {a b}"),
    (Normalise(underscores=False), "a_b, a_b", "a_b"),
    (Normalise(duplicates=False), "a,a", "a, a"),
    (Normalise(separators=False), "a,b  c", "a,b c"),
    (Normalise(), "1,000 houses", "1,000 houses"),
    (Normalise(), "", ""),
]


@pytest.mark.parametrize(("edit", "before", "after"), EDITED)
def test_each_edit_does_what_it_says(edit, before, after):
    assert apply(edit, before) == after


@pytest.mark.parametrize("edit", [Trigger(trigger="brndx"), Trigger(trigger="new", old="old"), Normalise()])
@given(text=st.text())
def test_edits_that_settle_a_form_change_nothing_the_second_time(edit, text):
    once = apply(edit, text)
    assert apply(edit, once) == once


def test_shuffling_depends_on_seed_and_file_alone():
    orders = {(seed, file): apply(Shuffle(), TAGS, file, seed) for seed in range(6) for file in ("a.png", "b.png")}
    assert orders == {key: apply(Shuffle(), TAGS, key[1], key[0]) for key in orders}
    assert len(set(orders.values())) > 6
    assert orders[0, "a.png"] == "brndx, tall tree, clouds, red roof, a house"  # the same in every release


def test_dropout_leaves_out_its_share_of_the_tags():
    left = [len(tags_of(apply(Dropout(probability=0.25), TAGS, f"{number}.png"))) for number in range(1000)]
    assert sum(left) / 1000 == pytest.approx(1 + 0.75 * 4, abs=0.1)
    assert apply(Dropout(probability=1.0, keep=2), TAGS) == "brndx, a house"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Replace(old=""),
        lambda: Replace(old="(", regex=True),
        lambda: Replace(old="x" * 1001),
        lambda: Replace(old="x", new="y" * 1001),
        lambda: Remove(text=" "),
        lambda: Trigger(trigger=" "),
        lambda: Shuffle(keep=-1),
        lambda: Dropout(probability=1.5),
    ],
)
def test_an_edit_that_cannot_work_is_refused_when_it_is_made(make):
    with pytest.raises(InvalidSetting) as refused:
        make()
    assert refused.value.hint


def test_a_pattern_that_runs_away_is_stopped_and_named():
    runaway = Replace(old=r"(x+x+)+y", regex=True)
    with pytest.raises(InvalidSetting, match=r"\(x\+x\+\)\+y.*my\.png") as refused:
        apply(runaway, "x" * 5_000, "my.png")
    assert "repeats" in refused.value.hint


def test_a_group_that_the_pattern_lacks_is_refused():
    with pytest.raises(InvalidSetting, match="cannot replace"):
        apply(Replace(old="a", new=r"\3", regex=True), "a cat")


def test_a_caption_that_would_grow_too_long_is_refused_with_its_file():
    grow = Replace(old="x", new="x" * 100)
    with pytest.raises(InvalidSetting, match=r"my\.png longer than 65536"):
        edited("x" * 10, [grow] * 4, file="my.png")


def test_edits_are_done_in_their_order_and_the_result_is_one_clean_line():
    assert edited("a house", [Append(text="x\n y"), Replace(old="x", new="z")], file="a.png") == "a house, z, y"


def test_every_edit_has_a_name_and_says_what_it_does():
    made = [Prepend(text="t"), Append(text="t"), Replace(old="t"), Remove(text="t"), Trigger(trigger="t")]
    made += [Shuffle(), Dropout(probability=0.5), Normalise()]
    assert {type(edit) for edit in made} == set(EDITS.values())
    assert len({edit.what for edit in made}) == len(made)
    assert list(EDITS) == sorted(EDITS)
