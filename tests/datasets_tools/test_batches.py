from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_tools.batches import Batches, plan_epoch, share
from datasets_tools.bucket import Bucket
from datasets_tools.errors import InvalidSetting

SQUARE, WIDE, TALL = (Bucket(width=w, height=h) for w, h in ((512, 512), (704, 384), (384, 704)))
BUCKETS = st.lists(st.sampled_from([SQUARE, WIDE, TALL]), min_size=1, max_size=60)
SIZES = st.integers(1, 16)


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
    assert later.epoch == step // batches.per_epoch
    assert {buckets[index] for index in later.indices} == {later.bucket}


@given(BUCKETS, SIZES)
def test_per_epoch_counts_the_batches(buckets, size):
    assert Batches(buckets, size, seed=0).per_epoch == len(plan_epoch(buckets, size, seed=0, epoch=0))


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
