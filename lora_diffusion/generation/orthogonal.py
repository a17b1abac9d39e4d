"""Take out of other adapters what one adapter uses, so that its effect stays untouched.

With U and V orthonormal bases of the column and row space of delta_A, every other delta becomes
(I - U U^T) delta (I - V V^T). Then delta_A^T delta = 0 and delta_A delta^T = 0: the other no longer reads what A reads
from its input nor writes where A writes to its output, and the inner product of the two is 0. The rank stays. What is
given up is the part of the other that lies in these spaces.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.files.factors import Factors, core, factors, norm
from lora_diffusion.generation.blending import Term

__all__ = ["project", "spaces"]

# Directions of A below this share of its largest singular value are rounding of its fp32 factors.
_NOISE = 1e-9
# A delta that keeps less than this share of its norm lay inside A's spaces: what is left of it is rounding.
_GONE = 1e-7


def spaces(weights: Weights) -> Factors:
    """Return orthonormal bases in float64 of the column space [out, k] and the row space [n, k] of a delta."""
    q_up, q_down, middle = core(factors(weights))
    left, values, right = torch.linalg.svd(middle, full_matrices=False)
    count = int((values > _NOISE * values[0]).sum())
    return q_up @ left[:, :count], q_down @ right[:count].T


def project(terms: Sequence[Term], key: str) -> tuple[list[Term], float, float]:
    """Return the terms with all but those of `key` projected off its spaces, the norm given up, and the norm before.

    Where the adapter of that key has no effect, nothing is taken from the others.
    """
    kept = [term for term in terms if term.key == key]
    if not kept:
        return list(terms), 0.0, math.hypot(*(_norm(term) for term in terms))
    columns, rows = spaces(kept[0].weights)
    result, given_up, before = [], 0.0, 0.0
    for term in terms:
        if term.key == key:
            result.append(term)
            continue
        size = _norm(term)
        projected = _projected(term, columns, rows)
        left = _norm(projected)
        before = math.hypot(before, size)
        given_up = math.hypot(given_up, math.sqrt(max(size**2 - left**2, 0.0)))
        if left > _GONE * size:
            result.append(projected)
    return result, given_up, before


def _projected(term: Term, columns: Tensor, rows: Tensor) -> Term:
    up, down = (each.double().flatten(1) for each in (term.weights.up, term.weights.down))
    weights = replace(
        term.weights,
        up=_without(up, columns).float().reshape(term.weights.up.shape),
        down=_without(down.T, rows).T.float().reshape(term.weights.down.shape),
    )
    full = term.full
    if full is None:
        return replace(term, weights=weights)
    return replace(term, weights=weights, full=lambda: _without(_without(_flat(full()), columns).T, rows).T)


def _flat(matrix: Tensor) -> Tensor:
    return matrix.double().flatten(1)


def _without(matrix: Tensor, basis: Tensor) -> Tensor:
    """Remove a space from columns; twice, because once leaves 1e-16 of what was removed."""
    for _ in range(2):
        matrix = matrix - basis @ (basis.T @ matrix)
    return matrix


def _norm(term: Term) -> float:
    return norm(factors(term.weights, term.weight))
