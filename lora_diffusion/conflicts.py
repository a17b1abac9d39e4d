"""Do two adapters get in each other's way? Measured on their weights, block by block, before anything is drawn.

The cosine of two deltas says whether they push the weights the same way (1), against each other (-1) or without regard
to each other (0). The overlap says how far they use the same directions at all: the mean squared cosine of the
principal angles between their column spaces and between their row spaces (Bjorck and Golub 1973), 1 for the same
spaces; random ones reach `chance`. All of it goes through the factors; a full matrix is never formed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.blocks import block_of
from lora_diffusion.errors import UsageError, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.factors import factors, norm
from lora_diffusion.generation.orthogonal import spaces
from lora_diffusion.lowrank import Bases, low_rank, without_bias

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["VERDICTS", "BlockConflict", "ConflictReport", "conflict", "plot_conflict"]

VERDICTS: Mapping[str, str] = {
    "same": "they do the same here: together they overshoot, lower both weights",
    "alike": "they partly do the same here: together they come out stronger than each alone",
    "opposed": "they work against each other here: what one adds the other takes away",
    "entangled": "they use the same directions for different things here: expect them to disturb each other",
    "independent": "they do not meet here: both take full effect",
}
"""Verdict and what it means for a blend of the two with positive weights."""


@dataclass(frozen=True, kw_only=True)
class BlockConflict:
    """Two adapters in one block. `angle` in degrees is the smallest principal angle between their spaces there."""

    block: str
    modules: int
    cosine: float
    overlap: float
    chance: float
    angle: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ConflictReport:
    """Two adapters, as a whole and by block; `only_first` and `only_second` count modules that the other lacks."""

    first: str
    second: str
    whole: BlockConflict
    blocks: tuple[BlockConflict, ...]
    only_first: int
    only_second: int

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "meanings": dict(VERDICTS)}

    def summary(self) -> str:
        """Return the finding in a few lines."""
        lines = [f"{self.first} and {self.second}: {VERDICTS[self.whole.verdict]} (cosine {self.whole.cosine:+.2f})"]
        lines += [f"{each.block}: {each.verdict}, cosine {each.cosine:+.2f}" for each in self.blocks]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Met:
    """One module: inner product and norms of the deltas, overlap of spaces, what chance gives, smallest angle."""

    inner: float
    norms: tuple[float, float]
    overlap: float
    chance: float
    angle: float


def conflict(first: Adapter, second: Adapter, *, base: Path | str | None = None) -> ConflictReport:
    """Compare the changes of weights of two adapters of one family, of any methods and ranks.

    `base` is the base model; only DoRA needs it, whose delta depends on it. Raises WrongFamily for adapters or a base
    of different families or sizes, UsageError where the adapters share no module or DoRA lacks its base.
    """
    if first.family != second.family:
        raise WrongFamily(
            f"{first.name} is for {first.family}, {second.name} for {second.family}",
            hint="compare adapters of one family",
        )
    shared = [name for name in first.modules if name in second.modules]
    if not shared:
        raise UsageError(
            f"{first.name} and {second.name} change no module in common, so they cannot conflict",
            hint="blend them as they are",
        )
    bases = Bases(base)
    met = {name: _meet(first, second, name, bases) for name in sorted(shared)}
    blocks: dict[str, list[_Met]] = {}
    for name, each in met.items():
        blocks.setdefault(block_of(name), []).append(each)
    return ConflictReport(
        first=first.name,
        second=second.name,
        whole=_summed("all", list(met.values())),
        blocks=tuple(_summed(block, each) for block, each in sorted(blocks.items(), key=lambda item: _place(item[0]))),
        only_first=len(first.modules) - len(shared),
        only_second=len(second.modules) - len(shared),
    )


def _place(block: str) -> tuple[int, str]:
    """The way of the data: text, down, middle, up, and what stands outside."""
    order = ("text2", "text", "unet.down", "unet.mid", "unet.up")
    return next((at for at, start in enumerate(order) if block.startswith(start)), len(order)), block


def _meet(first: Adapter, second: Adapter, module: str, bases: Bases) -> _Met:
    one, other = (_plain(each, module, bases) for each in (first, second))
    if one.shape != other.shape:
        raise WrongFamily(
            f"{module} is {tuple(one.shape)} in {first.name} and {tuple(other.shape)} in {second.name}",
            hint="they were trained on different base models",
        )
    return _measure(one, other)


def _plain(adapter: Adapter, module: str, bases: Bases) -> Weights:
    found = without_bias(adapter.modules[module])
    return low_rank(found, name=f"{adapter.name} at {module}", base=bases.for_any(module, [found]))[0]


def _measure(one: Weights, other: Weights) -> _Met:
    (up, down), (up2, down2) = factors(one), factors(other)
    norms = norm((up, down)), norm((up2, down2))
    if not all(norms):
        return _Met(inner=0.0, norms=norms, overlap=0.0, chance=0.0, angle=90.0)
    overlaps, chances, angles = [], [], []
    for space, space2 in zip(spaces(one), spaces(other), strict=True):
        cosines = torch.linalg.svdvals(space.T @ space2).clamp(max=1.0)
        overlaps.append(float((cosines**2).mean()))
        # E |A^T B|^2 = p q / n for random spaces of p and q of n dimensions; divided by the smaller of the two
        chances.append(max(space.shape[1], space2.shape[1]) / space.shape[0])
        angles.append(math.degrees(math.acos(float(cosines.max()))))
    return _Met(
        inner=float(((up.T @ up2) * (down @ down2.T)).sum()),
        norms=norms,
        overlap=sum(overlaps) / 2,
        chance=sum(chances) / 2,
        angle=min(angles),
    )


def _summed(block: str, met: list[_Met]) -> BlockConflict:
    """Deltas of a block count as one long vector; overlaps weigh as much as the two deltas."""
    sizes = [math.hypot(*(each.norms[side] for each in met)) for side in (0, 1)]
    weights = [each.norms[0] * each.norms[1] for each in met]
    total = sum(weights) or 1.0
    cosine = sum(each.inner for each in met) / (sizes[0] * sizes[1]) if all(sizes) else 0.0
    overlap = sum(each.overlap * by for each, by in zip(met, weights, strict=True)) / total
    chance = sum(each.chance * by for each, by in zip(met, weights, strict=True)) / total
    return BlockConflict(
        block=block,
        modules=len(met),
        cosine=cosine,
        overlap=overlap,
        chance=chance,
        angle=min(each.angle for each in met),
        verdict=_verdict(cosine, overlap, chance),
    )


def _verdict(cosine: float, overlap: float, chance: float) -> str:
    """At a cosine of 0.5 two equal deltas add up to 1.7 times one of them, at 0.2 to 1.55; unrelated ones to 1.4."""
    if cosine >= 0.5:
        return "same"
    if cosine >= 0.2:
        return "alike"
    if cosine <= -0.2:
        return "opposed"
    return "entangled" if overlap >= chance + 0.25 * (1 - chance) else "independent"


_COLOURS = {
    "same": "#b3261e", "alike": "#9a5b00", "opposed": "#6a3fb5", "entangled": "#9a5b00", "independent": "#2e7d4f",
}  # fmt: skip
_INK, _QUIET, _PAPER = "#1d1d1f", "#767680", "#ffffff"
_ROW, _LEFT, _BAR, _GAP, _TOP = 30, 110, 240, 40, 96


def plot_conflict(report: ConflictReport, path: Path | str) -> Path:
    """Draw a report as a PNG: per block the cosine left or right of zero, and the overlap with a tick at chance."""
    from PIL import Image, ImageDraw, ImageFont

    from datasets_tools.storage import replacing

    rows = (report.whole, *report.blocks)
    width = _LEFT + 2 * _BAR + 2 * _GAP + 150
    image = Image.new("RGB", (width, _TOP + _ROW * len(rows) + 24), _PAPER)
    pen = ImageDraw.Draw(image)
    title, text = ImageFont.load_default(17), ImageFont.load_default(13)
    pen.text((16, 14), f"{_short(report.first)}  and  {_short(report.second)}", fill=_INK, font=title)
    pen.text((16, 40), VERDICTS[report.whole.verdict], fill=_COLOURS[report.whole.verdict], font=text)
    for x, heading in ((_LEFT, "cosine   -1 to 1"), (_LEFT + _BAR + _GAP, "overlap   0 to 1, tick: chance")):
        pen.text((x, _TOP - 26), heading, fill=_QUIET, font=text)
    for number, row in enumerate(rows):
        _draw_row(pen, row, _TOP + number * _ROW, text)
    with replacing(Path(path)) as aside:
        image.save(aside, format="PNG")
    return Path(path)


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."


def _draw_row(pen: "ImageDraw", row: BlockConflict, y: int, font: Any) -> None:
    """One block: its name, a bar from the middle, a bar from the left, its verdict."""
    colour, middle = _COLOURS[row.verdict], _LEFT + _BAR // 2
    pen.text((16, y + 4), row.block, fill=_INK, font=font)
    pen.rectangle((_LEFT, y + 4, _LEFT + _BAR, y + 20), fill="#f0f0f3")
    ends = sorted((middle, middle + round(row.cosine * _BAR / 2)))
    pen.rectangle((ends[0], y + 4, ends[1], y + 20), fill=colour)
    pen.line((middle, y + 2, middle, y + 22), fill=_QUIET)
    left = _LEFT + _BAR + _GAP
    pen.rectangle((left, y + 4, left + _BAR, y + 20), fill="#f0f0f3")
    pen.rectangle((left, y + 4, left + round(row.overlap * _BAR), y + 20), fill=colour)
    tick = left + round(row.chance * _BAR)
    pen.line((tick, y + 1, tick, y + 23), fill=_INK, width=2)
    pen.text((left + _BAR + 12, y + 4), f"{row.verdict} ({row.cosine:+.2f})", fill=colour, font=font)
