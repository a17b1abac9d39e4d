from collections import Counter
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.batches import Batches, plan_epoch, share
from datasets_tools.bucket import Bucket
from datasets_tools.errors import InvalidSetting

SQUARE, WIDE, TALL = (Bucket(width=w, height=h) for w, h in ((512, 512), (704, 384), (384, 704)))
BUCKETS = st.lists(st.sampled_from([SQUARE, WIDE, TALL]), min_size=1, max_size=60)
SIZES = st.integers(1, 16)


def repeats_for(buckets):
    repeat = st.sampled_from([0.1, 0.29, 1 / 3, 0.5, 1, 1.5, 2, 7]) | st.floats(0.05, 5)
    return st.lists(repeat, min_size=len(buckets), max_size=len(buckets))


@given(BUCKETS, SIZES, st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_shows_every_image_exactly_once(buckets, size, seed, epoch):
    plan = plan_epoch(buckets, size, seed=seed, epoch=epoch)
    assert Counter(index for batch in plan for index in batch) == Counter(range(len(buckets)))


@given(BUCKETS, SIZES)
def test_batches_hold_one_bucket_and_differ_in_size_by_at_most_one(buckets, size):
    lengths = {}
    for batch in plan_epoch(buckets, size, seed=1, epoch=0):
        (bucket,) = {buckets[index] for index in batch}
        lengths.setdefault(bucket, []).append(len(batch))
    for group in lengths.values():
        assert max(group) <= size
        assert max(group) - min(group) <= 1


def test_twenty_images_at_batch_size_eight_make_7_7_and_6():
    plan = plan_epoch([SQUARE] * 20, 8, seed=0, epoch=0)
    assert sorted(map(len, plan)) == [6, 7, 7]


def test_the_order_depends_on_seed_and_epoch_and_nothing_else():
    buckets = [SQUARE] * 9 + [WIDE] * 5
    assert plan_epoch(buckets, 4, seed=1, epoch=2) == plan_epoch(buckets, 4, seed=1, epoch=2)
    assert len({plan_epoch(buckets, 4, seed=seed, epoch=epoch) for seed in range(5) for epoch in range(5)}) == 25


def test_the_order_is_the_same_on_every_machine_and_version():
    assert plan_epoch([SQUARE, WIDE, SQUARE, SQUARE, WIDE], 2, seed=7, epoch=3) == ((1, 4), (3, 0), (2,))


@given(BUCKETS, SIZES, st.integers(0, 200))
def test_any_step_can_be_asked_for_in_any_order(buckets, size, step):
    batches = Batches(buckets, size, seed=3)
    later, first = batches.at(step), batches.at(0)
    again = Batches(buckets, size, seed=3)
    assert again.at(0) == first
    assert again.at(step) == later
    assert later.epoch == step // batches.steps(1)
    assert {buckets[index] for index in later.indices} == {later.bucket}


@given(BUCKETS, SIZES, st.integers(0, 5), st.data())
def test_the_steps_of_some_epochs_are_the_batches_that_they_have(buckets, size, epochs, data):
    repeats = data.draw(repeats_for(buckets))
    plans = [plan_epoch(buckets, size, seed=0, epoch=epoch, repeats=repeats) for epoch in range(epochs)]
    assert Batches(buckets, size, seed=0, repeats=repeats).steps(epochs) == sum(map(len, plans))


@given(BUCKETS, SIZES, st.data())
def test_every_step_is_the_next_batch_of_the_epochs_in_a_row(buckets, size, data):
    repeats = data.draw(repeats_for(buckets))
    batches = Batches(buckets, size, seed=4, repeats=repeats)
    planned = [
        (epoch, batch)
        for epoch in range(7)
        for batch in plan_epoch(buckets, size, seed=4, epoch=epoch, repeats=repeats)
    ]
    steps = list(enumerate(planned))
    data.draw(st.randoms(use_true_random=False)).shuffle(steps)
    for step, (epoch, indices) in steps:
        assert (batches.at(step).epoch, batches.at(step).indices) == (epoch, indices)


@given(st.integers(1, 5000), st.integers(1, 1000), st.integers(0, 400))
def test_a_sample_occurs_as_often_as_it_repeats_on_average_exactly(over, under, epochs):
    plans = [plan_epoch([SQUARE], 4, seed=0, epoch=epoch, repeats=[over / under]) for epoch in range(min(epochs, 40))]
    seen = [sum(map(len, plan)) for plan in plans]
    assert seen == [(e + 1) * over // under - e * over // under for e in range(len(seen))]
    assert Batches([SQUARE], 1, seed=0, repeats=[over / under]).steps(epochs) == epochs * over // under


@given(BUCKETS, SIZES, st.integers(0, 5))
def test_repeats_of_one_change_nothing(buckets, size, epoch):
    ones = [1.0] * len(buckets)
    assert plan_epoch(buckets, size, seed=2, epoch=epoch, repeats=ones) == plan_epoch(
        buckets, size, seed=2, epoch=epoch
    )


@given(BUCKETS, SIZES, st.integers(0, 5), st.data())
def test_copies_of_a_sample_share_a_batch_only_where_there_are_too_few_batches(buckets, size, epoch, data):
    plan = plan_epoch(buckets, size, seed=2, epoch=epoch, repeats=data.draw(repeats_for(buckets)))
    batches_of = Counter(buckets[batch[0]] for batch in plan)
    copies_of = Counter(index for batch in plan for index in batch)
    for batch in plan:
        assert len(batch) <= size
        for index, copies in Counter(batch).items():
            assert copies <= -(-copies_of[index] // batches_of[buckets[index]])


def test_batches_that_begin_with_copies_of_one_sample_are_spread_over_the_epoch():
    plans = [
        plan_epoch([SQUARE, WIDE, WIDE, WIDE, WIDE], 1, seed=seed, epoch=0, repeats=[4, 1, 1, 1, 1])
        for seed in range(8)
    ]
    assert any(0 < sum(len(set(pair)) == 1 for pair in pairwise(plan)) < 3 for plan in plans)


def test_epochs_without_a_batch_are_passed_over_but_counted():
    batches = Batches([SQUARE, WIDE], 2, seed=0, repeats=[0.25, 0.125])
    assert [batches.at(step).epoch for step in range(6)] == [3, 7, 7, 11, 15, 15]


@pytest.mark.parametrize("images", [12, 2000])
def test_a_late_step_is_found_at_once(images):
    repeats = [0.5 + index % 97 / 31 for index in range(images)]
    batches = Batches([(SQUARE, WIDE, TALL)[index % 3] for index in range(images)], 4, seed=0, repeats=repeats)
    started = process_time()
    batches.at(50_000)
    assert process_time() - started < 1  # 0.01 s on a desktop, where planning every epoch takes 3 s


@pytest.mark.parametrize("repeat", [0, -1, float("nan"), float("inf"), 1e-7])
def test_impossible_repeats_are_refused(repeat):
    with pytest.raises(InvalidSetting, match="repeats"):
        Batches([SQUARE], 1, 0, [repeat])


def test_repeats_for_other_samples_are_refused():
    with pytest.raises(InvalidSetting, match="1 repeats were given for 2 samples"):
        plan_epoch([SQUARE, WIDE], 1, seed=0, epoch=0, repeats=[1])


@given(BUCKETS, SIZES, st.integers(1, 9), st.integers(0, 5))
def test_every_image_is_computed_exactly_once_per_epoch_at_any_batch_size_and_world_size(buckets, size, world, epoch):
    computed = Counter(
        index
        for batch in plan_epoch(buckets, size, seed=5, epoch=epoch)
        for rank in range(world)
        for index in share(batch, rank, world)
        if index is not None
    )
    assert computed == Counter(range(len(buckets)))


@given(st.lists(st.integers(), unique=True, max_size=40), st.integers(1, 9))
def test_processes_share_a_batch_evenly_and_completely(indices, world):
    shares = [share(indices, rank, world) for rank in range(world)]
    assert len({len(one) for one in shares}) == 1
    assert sorted(index for one in shares for index in one if index is not None) == sorted(indices)
    assert sum(index is None for one in shares for index in one) < world


@pytest.mark.parametrize("wrong", [lambda: Batches([], 1, 0), lambda: Batches([SQUARE], 0, 0)])
def test_nothing_to_batch_is_refused(wrong):
    with pytest.raises(InvalidSetting):
        wrong()


def test_impossible_steps_and_ranks_are_refused():
    with pytest.raises(InvalidSetting, match="negative"):
        Batches([SQUARE], 1, 0).at(-1)
    with pytest.raises(InvalidSetting, match="rank 2"):
        share((1, 2), 2, 2)
