"""Bucket rules side by side: how much of the pixel budget is used, how much of the pictures is cut off, what is lost.

python -m tests.benchmarks.buckets [--images 10000 --seed 0] prints tables in markdown and takes seconds. The rules of
others are written anew from their published formulas; the programs themselves are not run.
"""

import argparse
import math
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable

from datasets_tools.batches import plan_epoch
from datasets_tools.bucket import Bucket, BucketRule, bucket_for

Size = tuple[int, int]
Rule = Callable[[Size], Size]

GRIDS = [(1024, 64), (512, 64)]
NAMES = ["ours", "rule A (kohya sd-scripts)", "rule B (OneTrainer)"]
COLUMNS = [
    "area used, mean", "area used, worst 1 %", "cut off, mean", "cut off, worst 1 %",
    "never trained of 12", "never trained of 20", "never trained of 50", "largest size",
]  # fmt: skip
# what design tools and web sites offer: social posts, covers, skyscrapers, A4 at 300 dpi
DESIGNED = [
    (1080, 1080), (1080, 1350), (1080, 1920), (1200, 628), (1280, 720), (1000, 1500), (1500, 500), (1584, 396),
    (1640, 856), (800, 2000), (970, 250), (160, 600), (300, 250), (2480, 3508), (3508, 2480),
]  # fmt: skip


def pictures(count: int, seed: int) -> list[Size]:
    """Return sizes as a brand team has them: phones, cameras, screens, squares, banners, designs and anything."""
    draw = random.Random(seed)
    return [_picture(draw) for _ in range(count)]


def ours(resolution: int, step: int) -> Rule:
    rule = BucketRule(resolution=resolution, step=step)

    def choose(size: Size) -> Size:
        bucket = bucket_for(*size, rule)
        return bucket.width, bucket.height

    return choose


def listed(resolution: int, step: int) -> Rule:
    """Rule A: every width from 256 to twice the resolution, height = floor(area / width); the nearest aspect.

    Twice the resolution is generous: its default ends at 1024, where 16:9 at 1024 gets 56 % of the area.
    """
    area, longest = resolution**2, 2 * resolution
    sizes = {(resolution // step * step,) * 2}
    for width in range(256, longest + 1, step):
        height = min(longest, area // width // step * step)
        if height >= 256:
            sizes |= {(width, height), (height, width)}
    return _nearest(sizes)


def nine_aspects(resolution: int, step: int) -> Rule:
    """Rule B: nine aspects and their inverses, each at the full area, rounded to the grid; the nearest aspect."""
    sizes = set()
    for aspect in (1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4):
        across, along = (round(resolution * share / step) * step for share in (aspect**0.5, aspect**-0.5))
        sizes |= {(across, along), (along, across)}
    return _nearest(sizes)


def row(rule: Rule, sizes: list[Size], resolution: int) -> list[float]:
    """Return area used and cut off. Area above the budget counts as all of it, not as more."""
    buckets = [rule(size) for size in sizes]
    used = [min(1.0, width * height / resolution**2) for width, height in buckets]
    cut = [_cut(size, bucket) for size, bucket in zip(sizes, buckets, strict=True)]
    worst = max(1, len(sizes) // 100)
    return [_mean(used), _mean(sorted(used)[:worst]), _mean(cut), _mean(sorted(cut)[-worst:])]


def largest(rule: Rule, sizes: list[Size], resolution: int) -> float:
    """Return the pixels of the largest bucket over the pixel budget: what memory has to hold."""
    return max(width * height for width, height in map(rule, sizes)) / resolution**2


def never_trained(name: str, rule: Rule, sizes: list[Size], together: int, batch_size: int = 4) -> float:
    """Return the share of pictures that no epoch shows, over the sets of `together` pictures that `sizes` makes."""
    lost = 0
    sets = [sizes[start : start + together] for start in range(0, len(sizes) - together + 1, together)]
    for one in sets:
        buckets = [rule(size) for size in one]
        lost += together - len(_shown(name, buckets, batch_size))
    return lost / (together * len(sets))


def table(resolution: int, step: int, sizes: list[Size]) -> dict[str, list[float]]:
    """Return the figures of COLUMNS for every rule."""
    rules = zip(NAMES, [make(resolution, step) for make in (ours, listed, nine_aspects)], strict=True)
    return {
        name: [
            *row(rule, sizes, resolution),
            *(never_trained(name, rule, sizes, together) for together in (12, 20, 50)),
            largest(rule, sizes, resolution),
        ]
        for name, rule in rules
    }


def _shown(name: str, buckets: list[Size], batch_size: int) -> set[int]:
    if name == "ours":  # asked, not assumed: what an epoch of the product holds
        plan = plan_epoch([Bucket(width=w, height=h) for w, h in buckets], batch_size, seed=0, epoch=0)
        return {index for batch in plan for index in batch}
    counts = Counter(buckets)  # B drops the rest of every bucket; below one batch that is all of it. A shortens batches
    smallest = batch_size if name == NAMES[2] else 1
    return {index for index, bucket in enumerate(buckets) if counts[bucket] >= smallest}


def _nearest(sizes: set[Size]) -> Rule:
    by_aspect = sorted((width / height, (width, height)) for width, height in sizes)
    aspects = [aspect for aspect, _ in by_aspect]

    def choose(size: Size) -> Size:
        if size in sizes:
            return size
        wanted = size[0] / size[1]
        place = bisect(aspects, wanted)
        return min(by_aspect[max(place - 1, 0) : place + 1], key=lambda each: abs(each[0] - wanted))[1]

    return choose


def _picture(draw: random.Random) -> Size:
    long = draw.randint(1200, 6000)
    kind = draw.choices(
        [4 / 3, 16 / 9, 3 / 2, 1, "banner", "designed", "any"], weights=[20, 15, 15, 15, 10, 15, 10]
    )[0]  # fmt: skip
    if kind == "designed":
        return draw.choice(DESIGNED)
    if kind == "any":
        return draw.randint(600, 6000), draw.randint(600, 6000)
    short = round(long / (draw.uniform(3, 6) if kind == "banner" else kind))
    return (long, short) if draw.random() < 0.5 else (short, long)


def _cut(size: Size, bucket: Size) -> float:
    across, along = bucket[0] * size[1], bucket[1] * size[0]
    return 1 - min(across, along) / max(across, along)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sizes = pictures(given.images, given.seed)
    for resolution, step in GRIDS:
        print(f"\n{resolution} in steps of {step}, {given.images} sizes:\n")
        print("| " + " | ".join(["", *COLUMNS]) + " |")
        print("| --- " * (len(COLUMNS) + 1) + "|")
        for name, figures in table(resolution, step, sizes).items():
            print("| " + " | ".join([name, *(f"{100 * figure:.1f} %" for figure in figures)]) + " |")


if __name__ == "__main__":
    main()
