"""How far generated pictures are from the true restyled icons.

Pictures are tensors [n, 3, h, w] in 0..1; the i-th generated one belongs to the i-th true one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Distance", "colour_distance", "distance", "pixel_distance", "retrieval"]

BINS = 6  # per colour channel: 216 colours, coarse enough that a shade off still counts as the same
CELL = 8  # pixels; one latent cell, so that shapes count and fine lines do not


@dataclass(frozen=True, kw_only=True)
class Distance:
    """`pixels` and `colours` are 0 for equal pictures; `found` is the share of recognised ones, 1 at best."""

    pixels: float
    colours: float
    found: float


def distance(generated: Tensor, true: Tensor, among: Tensor | None = None) -> Distance:
    """Measure all three. `among` adds pictures [m, 3, h, w] that retrieval must tell from the true ones."""
    candidates = true if among is None else torch.cat([true, among])
    return Distance(
        pixels=pixel_distance(generated, true),
        colours=colour_distance(generated, true),
        found=retrieval(generated, candidates),
    )


def pixel_distance(generated: Tensor, true: Tensor) -> float:
    """Return the mean absolute difference, 0..1."""
    return float((generated - true).abs().mean())


def colour_distance(generated: Tensor, true: Tensor) -> float:
    """Return the total variation between the colour histograms of the two sets, 0..1."""
    return float((_histogram(generated) - _histogram(true)).abs().sum() / 2)


def retrieval(generated: Tensor, candidates: Tensor) -> float:
    """Return the share of generated pictures [n] whose nearest of the candidates [m >= n] is the one with their index.

    Nearest by the cosine of pictures averaged over cells, without their mean tone.
    """
    nearest = (_shape(generated) @ _shape(candidates).T).argmax(dim=1)
    wanted = torch.arange(len(generated), device=nearest.device)
    return float((nearest == wanted).float().mean())


def _histogram(pictures: Tensor) -> Tensor:
    level = (pictures.clamp(0, 1) * BINS).long().clamp(max=BINS - 1)
    index = (level[:, 0] * BINS + level[:, 1]) * BINS + level[:, 2]
    counts = torch.bincount(index.flatten(), minlength=BINS**3).float()
    return counts / counts.sum()


def _shape(pictures: Tensor) -> Tensor:
    cells = functional.avg_pool2d(pictures, CELL).flatten(1)
    return functional.normalize(cells - cells.mean(dim=1, keepdim=True), dim=1)
