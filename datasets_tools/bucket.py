"""Aspect buckets as arithmetic: which size an image is trained at, and what is cut off. Pure; no image is ever dropped.

Peers pick from a fixed list of sizes, so that a picture between two entries loses up to a third. Here the size is
searched on the grid for each image: near the pixel budget, with the smallest crop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from datasets_tools.errors import InvalidSetting

__all__ = ["Bucket", "BucketRule", "Crop", "bucket_for", "crop_for"]

# A size within 5 % of the budget costs what the budget costs, so nothing is gained by coming closer.
_NEAR = 0.05
# On coarse grids (128 px in steps of 32 has only 16 cells) holding those 5 % would cut pictures in half: where less
# than this share of the picture would be kept, the budget gives way.
_KEEP = 0.75


@dataclass(frozen=True, kw_only=True, order=True)
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
        min_side, max_side: None means half and twice the resolution, which reaches aspect 1:4 at the full budget.
        upscale: False trains a small image at a smaller size instead of enlarging it.

    Raises InvalidSetting when no size fits.
    """

    resolution: int = 512
    step: int = 64
    min_side: int | None = None
    max_side: int | None = None
    upscale: bool = True

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

    @property
    def sides(self) -> range:
        """Return the allowed lengths of a side."""
        shortest = self.resolution // 2 if self.min_side is None else self.min_side
        longest = self.resolution * 2 if self.max_side is None else self.max_side
        first = max(1, -(-shortest // self.step)) * self.step
        return range(first, longest + 1, self.step)

    @property
    def budget(self) -> int:
        """Return the number of pixels that an image should have."""
        return self.resolution * self.resolution


@dataclass(frozen=True, kw_only=True)
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
    """Return the size that keeps most of a width x height image at about the pixel budget of the rule.

    Sizes within 5 % of the budget come first; only where all of them would keep less than three quarters of the picture
    does a size further from the budget win. With `upscale=False` the budget is at most the image's own pixels.
    Swapping width and height swaps the result.
    """
    _refuse_empty(width, height)
    budget = rule.budget if rule.upscale else min(rule.budget, width * height)
    sizes = _sizes(rule, budget)
    if not rule.upscale:
        largest = _clamped(width // rule.step * rule.step, rule), _clamped(height // rule.step * rule.step, rule)
        sizes = tuple(size for size in (*sizes, largest) if size[0] <= width and size[1] <= height) or sizes
    near = [size for size in sizes if _fill(size, budget) >= 1 - _NEAR]
    best = _best(near, width, height, budget) if near else None
    if best is None or _kept(best, width, height) < _KEEP:
        best = _best(sizes, width, height, budget)
    return Bucket(width=best[0], height=best[1])


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


@lru_cache(maxsize=64)
def _sizes(rule: BucketRule, budget: int) -> tuple[tuple[int, int], ...]:
    """Return the sizes worth a look, smallest first: for each side the two lengths next to the budget."""
    sizes = {size for side in rule.sides for size in _pairs(side, rule, budget)}
    return tuple(sorted(sizes, key=lambda size: (size[0] * size[1], size)))


def _pairs(side: int, rule: BucketRule, budget: int) -> Iterator[tuple[int, int]]:
    below = budget // side // rule.step * rule.step
    for other in (below, below + rule.step):
        yield side, _clamped(other, rule)
        yield _clamped(other, rule), side


def _clamped(side: int, rule: BucketRule) -> int:
    return min(max(side, rule.sides[0]), rule.sides[-1])


def _best(
    sizes: tuple[tuple[int, int], ...] | list[tuple[int, int]], width: int, height: int, budget: int
) -> tuple[int, int]:
    # of equal candidates the one with fewer pixels, then the one that is turned like the image
    return max(
        sizes,
        key=lambda size: (
            _kept(size, width, height) * _fill(size, budget),
            -size[0] * size[1],
            (size[0] - size[1]) * (width - height),
            -size[0],
        ),
    )


def _kept(size: tuple[int, int], width: int, height: int) -> float:
    """Return the share of the image that a crop to this aspect keeps. Exact integers: twins give equal floats."""
    across, along = size[0] * height, size[1] * width
    return min(across, along) / max(across, along)


def _fill(size: tuple[int, int], budget: int) -> float:
    pixels = size[0] * size[1]
    return min(pixels, budget) / max(pixels, budget)


def _refuse_empty(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InvalidSetting(f"an image of {width} x {height} pixels has no bucket", hint="check the size")
