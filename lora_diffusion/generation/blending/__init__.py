"""Ways to make one adapter of several, one module each; a new file here is a new method."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, WrongFamily
from lora_diffusion.files.factors import factors
from lora_diffusion.lowrank import best_fit

__all__ = [
    "DENSITY",
    "Fitted",
    "How",
    "Method",
    "Term",
    "dense_sum",
    "keep_largest",
    "method_named",
    "methods",
    "require_one_shape",
]

DENSITY = 0.5
"""Share of the entries that ties, dare and magnitude keep. TIES (Yadav et al. 2023) keeps 0.2 of full fine-tunings; of
normally distributed entries the largest 0.2 hold 65 % of the energy, the largest 0.5 hold 93 %."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One adapter at one module: its low-rank weights, its weight there, and a key that no order of arguments changes.

    `full` is the true delta [out, ...] where the low-rank weights only approach it, as they do for some methods.
    """

    weights: Weights
    weight: float
    key: str = ""
    full: Callable[[], Tensor] | None = None

    def dense(self) -> Tensor:
        """Return weight * delta as a float64 matrix [out, n]."""
        if self.full is not None:
            return self.weight * self.full().double().flatten(1)
        up, down = factors(self.weights, self.weight)
        return up @ down

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the base weight."""
        return (self.weights.up.shape[0], *self.weights.down.shape[1:])


@dataclass(frozen=True, kw_only=True)
class How:
    """What was asked for; `module` is the canonical name of the module at hand."""

    rank: int | None = None
    keep: float | None = None
    density: float = DENSITY
    seed: int = 0
    module: str = ""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The weights of one module. `lost` and `size` are Frobenius norms: of what the factors leave out of the matrix
    that the method arrived at, and of that matrix."""

    weights: Weights
    lost: float
    size: float


class Method(Protocol):
    """A module of this package.

    `says` is one line of help; `takes` names the fields of `How` that have an effect; `exact` says that the result is
    the weighted sum. `combine` gets at least one term, all of one shape, in an order that depends on the content alone.
    """

    name: str
    says: str
    exact: bool
    takes: tuple[str, ...]

    def combine(self, terms: Sequence[Term], how: How) -> Fitted: ...


@cache
def methods() -> Mapping[str, Method]:
    """Return every method by name, sorted."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        each = cast(Method, importlib.import_module(f"{__name__}.{module.name}"))
        found[each.name] = each
    return dict(sorted(found.items()))


def method_named(name: str) -> Method:
    """Return a method by name. Raises UsageError listing the ones there are."""
    if name not in methods():
        raise UsageError(f"unknown method {name!r}", hint=f"use one of {', '.join(methods())}")
    return methods()[name]


def require_one_shape(terms: Sequence[Term], module: str) -> None:
    """Raise WrongFamily where the adapters do not belong to base models of one size."""
    shapes = {(term.shape[0], term.shape[1:]) for term in terms}
    if len(shapes) > 1:
        raise WrongFamily(
            f"{module} has different sizes in these adapters (out, in): {sorted(shapes)}",
            hint="they were trained on different base models and cannot be blended",
        )


def keep_largest(matrix: Tensor, density: float) -> Tensor:
    """Return a matrix whose entries outside the largest `density` by magnitude are 0; of equal ones all stay."""
    drop = matrix.numel() - max(1, round(density * matrix.numel()))
    if drop <= 0:
        return matrix
    threshold = matrix.abs().flatten().kthvalue(drop + 1).values
    return matrix * (matrix.abs() >= threshold)


def dense_sum(matrix: Tensor, terms: Sequence[Term], how: How) -> Fitted:
    """Return the low-rank fit of a full matrix: at the rank or share asked for, else at the sum of the terms' ranks."""
    rank = how.rank
    if rank is None and how.keep is None:
        rank = sum(term.weights.rank for term in terms)
    weights, lost = best_fit(matrix, terms[0].shape, rank=rank, keep=how.keep)
    return Fitted(weights=weights, lost=lost, size=float(torch.linalg.matrix_norm(matrix)))
