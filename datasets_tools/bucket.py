"""Aspect buckets as arithmetic: which size an image is trained at, and what is cut off. Pure; no image is ever dropped.

Peers pick from a fixed list of sizes, so that a picture between two entries loses up to a third. Here the size is
searched on the grid for each image: near the pixel budget, with the smallest crop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

from datasets_tools.errors import InvalidSetting

__all__ = ["Bucket", "BucketRule", "Crop", "bucket_for", "buckets_for", "crop_for"]

# Shares of the pixel budget. Near it every size is as good, and the smallest crop decides; at 512 in steps of 64 the
# next sizes are 10 % apart, and nothing narrower covers 1:3 to 3:1 with a crop of a sixth.
_NEAR = (0.98, 1.10)
# Crops below 1 % are all as good. On a grid of 8 px that brings the mean area from 104 % of the budget to 100 %, and
# near halves the number of buckets.
_SEEN = 0.99
# No size is larger than this for the sake of the crop; nor smaller, unless the crop budget leaves no other.
_BELOW = (0.0, 1.25)
_WIDE = (0.5, 1.25)
_ANY = (0.0, float("inf"))
# Pixels above the budget cost time and memory, missing ones cost detail for good: they count half.
_OVER = 0.5
# 700 pixels become 704 rather than 640: enlarging by 2 % shows less than losing a sixth of the pixels.
_ROUNDING = 1.02


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class Bucket:
    """A size in pixels at which images are trained together."""

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class BucketRule:
    """Which sizes are allowed. All lengths in pixels; the pixel budget is resolution squared.

    Args:
        resolution: side of the square with as many pixels as an image should have.
        step: both sides are multiples of it; 64 suits the UNet of Stable Diffusion (8 for the VAE times 8 below).
        min_side, max_side: None means a third and three times the resolution, which reaches aspect 1:9 at the full
            budget; banners are 1:3 to 1:8, and half and twice would cut a third off one of 6:1.
        upscale: False trains a small image at a smaller size; it is enlarged by at most 2 %, which is rounding to the
            grid, or as far as min_side forces. The budget is then at most the image's own pixels.
        crop_budget: largest share of a picture that may be cut off where any allowed size can avoid it. A sixth is the
            least at which 512 in steps of 64 has 98 % of the pixel budget for all pictures from 1:3 to 3:1; there 0.1
            means 94 to 113 %. At 1024 in steps of 64 the worst crop is 0.065 and in steps of 8 it is 0.01 anyway.

    Raises InvalidSetting when no size fits.
    """

    resolution: int = 512
    step: int = 64
    min_side: int | None = None
    max_side: int | None = None
    upscale: bool = True
    crop_budget: float = 1 / 6

    def __post_init__(self) -> None:
        if self.step < 1 or self.resolution < self.step:
            raise InvalidSetting(
                f"resolution {self.resolution} with step {self.step} allows no size",
                hint="use a resolution of at least one step; 512 with step 64 suits Stable Diffusion 1.5",
            )
        if not self.sides:
            raise InvalidSetting(
                f"no multiple of step {self.step} lies between min_side {self.min_side} and max_side {self.max_side}",
                hint="widen the range, or leave both out",
            )
        if not 0 <= self.crop_budget < 1:
            raise InvalidSetting(
                f"crop_budget {self.crop_budget} is not a share from 0 up to 1",
                hint="0.1 cuts off at most a tenth of a picture",
            )

    @property
    def sides(self) -> range:
        """Return the allowed lengths of a side."""
        shortest = self.resolution // 3 if self.min_side is None else self.min_side
        longest = self.resolution * 3 if self.max_side is None else self.max_side
        first = max(1, -(-shortest // self.step)) * self.step
        return range(first, longest + 1, self.step)

    @property
    def budget(self) -> int:
        """Return the number of pixels that an image should have."""
        return self.resolution * self.resolution


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """How an upright image becomes its bucket: resize to `resized`, then cut out `box`.

    `resized` is (width, height) and `box` is (left, top, right, bottom) in pixels of the resized image. `area_kept` is
    the share of the picture inside the box; `upscale` the factor of the resize, above 1 where pixels are invented.
    """

    resized: tuple[int, int]
    box: tuple[int, int, int, int]
    area_kept: float
    upscale: float

    @property
    def size(self) -> tuple[int, int]:
        """Return the final (width, height) in pixels."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


@lru_cache(maxsize=4096)  # folders repeat a few sizes many times
def bucket_for(width: int, height: int, rule: BucketRule) -> Bucket:
    """Return the size at which a width x height image is trained.

    Of the sizes within the crop budget, that with the smallest crop among those of 98 to 110 % of the pixel budget; on
    a coarse grid that has none, the one closest to the pixel budget, because the picture comes before its size. Where
    the crop budget cannot be held at all, the size that cuts least. Squares stay square, and swapping width and height
    swaps the result.
    """
    _refuse_empty(width, height)
    budget = rule.budget if rule.upscale else min(rule.budget, width * height)
    image = _Image(width=width, height=height, rule=rule, budget=budget)
    for crop, area, judge in (
        (rule.crop_budget, _NEAR, image.by_crop),
        (rule.crop_budget, _BELOW, image.by_area),
        (1.0, _WIDE, image.by_crop),
        (1.0, _ANY, image.by_area),
    ):
        best = max(image.sizes(crop, area), key=judge, default=None)
        if best is not None:
            return Bucket(width=best[0], height=best[1])
    raise AssertionError("the rule has a side, so there is a size")


def buckets_for(width: int, height: int, rules: Sequence[BucketRule]) -> tuple[Bucket, ...]:
    """Return the sizes at which an image is trained under several rules: one for each, without duplicates.

    A small image that is not enlarged may have the same size under all of them.
    """
    return tuple(dict.fromkeys(bucket_for(width, height, rule) for rule in rules))


def crop_for(width: int, height: int, bucket: Bucket) -> Crop:
    """Return the resize and the centre crop that take a width x height image to the bucket."""
    _refuse_empty(width, height)
    scale = max(bucket.width / width, bucket.height / height)
    resized = max(bucket.width, round(width * scale)), max(bucket.height, round(height * scale))
    left, top = (resized[0] - bucket.width) // 2, (resized[1] - bucket.height) // 2
    return Crop(
        resized=resized,
        box=(left, top, left + bucket.width, top + bucket.height),
        area_kept=_kept((bucket.width, bucket.height), width, height),
        upscale=scale,
    )


@dataclass(frozen=True, kw_only=True)
class _Image:
    """A picture in search of its size."""

    width: int
    height: int
    rule: BucketRule
    budget: int

    def sizes(self, crop: float, area: tuple[float, float]) -> Iterator[tuple[int, int]]:
        """Yield the allowed sizes that cut off at most `crop` and have from `area[0]` to `area[1]` of the budget."""
        for across in self._sides(self.width):
            ideal = across * self.height / self.width
            low = max(area[0] * self.budget / across, ideal * (1 - crop))
            high = min(area[1] * self.budget / across, ideal / (1 - crop) if crop < 1 else float("inf"))
            for along in _between(self._sides(self.height), low, high):
                if self.width != self.height or across == along:
                    yield across, along

    def by_crop(self, size: tuple[int, int]) -> tuple[float, ...]:
        return min(_kept(size, self.width, self.height), _SEEN), self._closeness(size), *self._tie(size)

    def by_area(self, size: tuple[int, int]) -> tuple[float, ...]:
        return self._closeness(size), _kept(size, self.width, self.height), *self._tie(size)

    def _sides(self, length: int) -> range:
        sides = self.rule.sides
        if self.rule.upscale:
            return sides
        longest = max(int(length * _ROUNDING), sides[0])
        return range(sides[0], min(longest, sides[-1]) + 1, sides.step)

    def _closeness(self, size: tuple[int, int]) -> float:
        share = size[0] * size[1] / self.budget
        return share if share <= 1 else 1 - _OVER * (share - 1)

    def _tie(self, size: tuple[int, int]) -> tuple[int, int]:
        # the cheaper of two, then the one that is turned like the image
        return -size[0] * size[1], (size[0] - size[1]) * (self.width - self.height)


def _between(sides: range, low: float, high: float) -> range:
    # a billionth more on both ends: 0.1 of a side that divides by ten must not fail by rounding
    first = max(ceil((low * (1 - 1e-9) - sides.start) / sides.step), 0)
    last = min(floor((min(high, sides[-1]) * (1 + 1e-9) - sides.start) / sides.step), len(sides) - 1)
    return sides[first : max(last + 1, first)]


def _kept(size: tuple[int, int], width: int, height: int) -> float:
    """Return the share of the image that a crop to this aspect keeps. Exact integers: twins give equal floats."""
    across, along = size[0] * height, size[1] * width
    return min(across, along) / max(across, along)


def _refuse_empty(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InvalidSetting(f"an image of {width} x {height} pixels has no bucket", hint="check the size")
