import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_tools.bucket import Bucket, BucketRule, bucket_for, crop_for
from datasets_tools.errors import InvalidSetting

SIDES = st.integers(1, 20_000)
RULES = st.builds(
    BucketRule,
    resolution=st.sampled_from([128, 256, 512, 768, 1024]),
    step=st.sampled_from([8, 16, 32, 64]),
    upscale=st.booleans(),
)
GRIDS = [(512, 64), (1024, 64), (768, 64), (512, 8), (1024, 32), (128, 8), (128, 16)]


@given(SIDES, SIDES, RULES)
def test_every_image_gets_a_size_on_the_grid(width, height, rule):
    bucket = bucket_for(width, height, rule)
    assert bucket.width in rule.sides
    assert bucket.height in rule.sides


@given(SIDES, SIDES, RULES)
def test_the_crop_lies_inside_the_resized_image_and_fills_the_bucket(width, height, rule):
    bucket = bucket_for(width, height, rule)
    crop = crop_for(width, height, bucket)
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= crop.resized[0]
    assert 0 <= top < bottom <= crop.resized[1]
    assert crop.size == (bucket.width, bucket.height)
    assert bucket.width == crop.resized[0] or bucket.height == crop.resized[1]
    assert abs(left - (crop.resized[0] - right)) <= 1
    assert abs(top - (crop.resized[1] - bottom)) <= 1
    assert 0 < crop.area_kept <= 1
    pixels = crop.resized[0] * crop.resized[1]
    assert crop.area_kept == pytest.approx(bucket.width * bucket.height / pixels, rel=0.02)


@given(SIDES, SIDES, RULES)
def test_turning_an_image_turns_its_bucket(width, height, rule):
    one, turned = bucket_for(width, height, rule), bucket_for(height, width, rule)
    assert (one.width, one.height) == (turned.height, turned.width)


@settings(max_examples=300)
@given(st.sampled_from(GRIDS), st.integers(600, 12_000), st.floats(1 / 3, 3))
def test_from_1_to_3_up_to_3_to_1_at_least_95_percent_of_the_pixel_budget_is_used(grid, width, aspect):
    rule = BucketRule(resolution=grid[0], step=grid[1])
    height = round(width / aspect)
    bucket = bucket_for(width, height, rule)
    assert 0.95 <= bucket.width * bucket.height / rule.budget <= 1.05
    assert crop_for(width, height, bucket).area_kept >= 0.83


@given(st.integers(300, 6000), st.floats(1 / 3, 3))
def test_on_the_coarsest_grid_the_picture_comes_before_the_budget(width, aspect):
    rule = BucketRule(resolution=128, step=32)
    height = round(width / aspect)
    bucket = bucket_for(width, height, rule)
    assert crop_for(width, height, bucket).area_kept >= 0.66
    assert 0.7 <= bucket.width * bucket.height / rule.budget <= 1.35


@given(st.integers(600, 6000), st.floats(1 / 3, 3), st.sampled_from(GRIDS))
def test_no_size_within_the_budget_would_keep_clearly_more(width, aspect, grid):
    rule = BucketRule(resolution=grid[0], step=max(grid[1], 16))
    height = round(width / aspect)
    chosen = crop_for(width, height, bucket_for(width, height, rule)).area_kept
    allowed = [
        crop_for(width, height, Bucket(width=across, height=along)).area_kept
        for across in rule.sides
        for along in rule.sides
        if 0.95 * rule.budget <= across * along <= 1.05 * rule.budget
    ]
    assert chosen >= max(allowed) - 0.05


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((4000, 4000), (1024, 1024)),
        ((6000, 4000), (1280, 832)),
        ((4032, 3024), (1152, 896)),
        ((1920, 1080), (1344, 768)),
        ((1080, 1920), (768, 1344)),
    ],
)
def test_cameras_and_screens_get_these_sizes(size, bucket):
    found = bucket_for(*size, BucketRule(resolution=1024))
    assert (found.width, found.height) == bucket


@given(st.integers(64, 3000), st.integers(64, 3000))
def test_without_upscaling_no_pixel_is_invented_where_the_grid_allows(width, height):
    rule = BucketRule(resolution=512, step=64, min_side=64, upscale=False)
    bucket = bucket_for(width, height, rule)
    assert crop_for(width, height, bucket).upscale <= 1
    used = bucket.width * bucket.height / min(rule.budget, width * height)
    if min(width, height) >= 256 and 1 / 3 <= width / height <= 3:
        assert used >= 0.6  # a grid of 64 px cannot come closer to every small size


def test_an_image_below_every_size_is_enlarged_rather_than_dropped():
    bucket = bucket_for(10, 10, BucketRule(upscale=False))
    assert (bucket.width, bucket.height) == (256, 256)
    assert crop_for(10, 10, bucket).upscale == 25.6


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"resolution": 32, "step": 64}, "resolution 32"),
        ({"min_side": 900, "max_side": 910}, "no multiple of step 64"),
        ({"step": 0}, "step 0"),
    ],
)
def test_a_rule_that_allows_no_size_is_refused(setting, named):
    with pytest.raises(InvalidSetting, match=named) as refused:
        BucketRule(**setting)
    assert refused.value.hint


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InvalidSetting, match="0 x 5"):
        bucket_for(0, 5, BucketRule())
