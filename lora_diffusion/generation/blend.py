"""Weighted sums of adapters: as weights of live adapters, and as one adapter that equals the sum.

delta* = sum of w_i * alpha_i / r_i * up_i @ down_i. Adding factors (up_1 + up_2) @ (down_1 + down_2) is another thing:
cross terms make its error as large as the blend itself. Columns of `up` and rows of `down` side by side are exact.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.factors import Factors, core, factors, norm, stack
from lora_diffusion.files.metadata import TRIGGER
from lora_diffusion.files.report import Report, report_of

__all__ = ["METHODS", "Blend", "Part", "blend", "blend_error", "collapse", "require_one_family", "truncate"]

Part = tuple[Adapter, float]
"""An adapter and its weight; negative weights remove a look."""


@dataclass(frozen=True, eq=False)  # equal as the mapping that it is
class Blend(Mapping[str, float]):
    """The weight of each adapter by name; 0 switches one off. Raises UsageError for a weight that is not finite."""

    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            _require_finite(name, weight)

    def __getitem__(self, name: str) -> float:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def require_one_family(adapters: Sequence[Adapter], family: str | None = None) -> str:
    """Return the family that all adapters share. Raises WrongFamily naming the first that is of another."""
    if not adapters:
        raise UsageError("no adapter was given", hint="name at least one, as PATH:WEIGHT")
    family = family or adapters[0].family
    for adapter in adapters:
        if adapter.family != family:
            raise WrongFamily(
                f"adapter {adapter.name} is for {adapter.family}, not for {family}",
                hint=f"use adapters that were trained for {family}",
            )
    return family


def collapse(adapters: Sequence[Part], *, name: str) -> Adapter:
    """Return one adapter whose deltas are the weighted sums, exactly: ranks add up, alpha = rank, so the scale is 1.

    Works for any ranks, alphas and signs, and does not depend on the order. Tensors are fp32. Raises WrongFamily for
    adapters of different families or sizes, UsageError for weights that are not finite or all 0.
    """
    parts = _checked(adapters)
    names = sorted({module for adapter, _ in parts for module in adapter.modules})
    modules = {module: _side_by_side(_at(parts, module), module) for module in names}
    return Adapter(
        name=name,
        family=parts[0][0].family,
        modules=modules,
        metadata=_metadata(parts),
        embeddings=_embeddings(parts),
        repairs=tuple(dict.fromkeys(line for adapter, _ in parts for line in adapter.repairs)),
    )


def _checked(adapters: Sequence[Part]) -> list[Part]:
    """Sum in an order of the content, so that the order of the arguments leaves no trace, not even in the last bit."""
    require_one_family([adapter for adapter, _ in adapters])
    for adapter, weight in adapters:
        _require_finite(adapter.name, weight)
    parts = sorted((part for part in adapters if part[1]), key=lambda part: (part[0].fingerprint, part[1]))
    if not parts:
        raise UsageError("all weights are 0, so the blend is nothing", hint="give at least one adapter another weight")
    return parts


def _require_finite(name: str, weight: float) -> None:
    if not isinstance(weight, int | float) or not math.isfinite(weight):
        raise UsageError(f"the weight of {name} is {weight!r}", hint="use a number, for example 0.8 or -0.3")


def _at(parts: Sequence[Part], module: str) -> list[tuple[Weights, float]]:
    return [(adapter.modules[module], weight) for adapter, weight in parts if module in adapter.modules]


def _side_by_side(parts: Sequence[tuple[Weights, float]], module: str) -> Weights:
    shapes = {(each.up.shape[0], tuple(each.down.shape[1:])) for each, _ in parts}
    if len(shapes) > 1:
        raise WrongFamily(
            f"{module} has different sizes in these adapters (out, in): {sorted(shapes)}",
            hint="they were trained on different base models and cannot be blended",
        )
    down = torch.cat([each.down.float() for each, _ in parts])
    up = torch.cat([each.up.float() * (weight * each.scale) for each, weight in parts], dim=1)
    return Weights(down=down, up=up, alpha=float(down.shape[0]))


def _metadata(parts: Sequence[Part]) -> dict[str, str]:
    first, *others = (adapter.metadata for adapter, _ in parts)
    shared = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
    triggers = list(dict.fromkeys(adapter.trigger for adapter, _ in parts if adapter.trigger))
    recipe = [{"name": each.name, "weight": weight, "fingerprint": each.fingerprint} for each, weight in parts]
    own = {"lora_diffusion.blend": json.dumps(recipe)} | ({TRIGGER: ", ".join(triggers)} if triggers else {})
    return {key: value for key, value in shared.items() if key not in ("modelspec.title", "ss_output_name")} | own


def _embeddings(parts: Sequence[Part]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for adapter, _ in parts:
        for token, vector in adapter.embeddings.items():
            if token in result and not torch.equal(result[token], vector):
                raise UsageError(f"two adapters bring different embeddings for the token {token}")
            result[token] = vector
    return result


def truncate(adapter: Adapter, *, rank: int | None = None, keep: float | None = None) -> Adapter:
    """Return the best approximation of each delta at a rank, or at the smallest rank that keeps a share of its energy.

    `keep` is a share of the squared Frobenius norm, in each module, so also in total. The best fit comes from an SVD of
    the small core between two QR decompositions (Eckart and Young 1936); the full matrix is never formed. Convolutions
    are factored as [out, in * kh * kw]. A module whose rank is already as low stays as it is.
    """
    if (rank is None) == (keep is None):
        raise UsageError("truncation needs either a rank or a share to keep", hint="give --rank 16 or --keep 0.99")
    if rank is not None and rank < 1:
        raise UsageError(f"rank {rank} is not possible", hint="use 1 or more")
    if keep is not None and not 0 < keep <= 1:
        raise UsageError(f"a share of {keep} cannot be kept", hint="use a number above 0 and up to 1, such as 0.99")
    return replace(adapter, modules={name: _cut(each, rank, keep) for name, each in adapter.modules.items()})


def _cut(weights: Weights, rank: int | None, keep: float | None) -> Weights:
    q_up, q_down, middle = core(factors(weights))
    left, values, right = torch.linalg.svd(middle)
    count = _count(values, keep) if rank is None else rank
    if count >= weights.rank:
        return weights
    root = values[:count].sqrt()
    up = q_up @ left[:, :count] * root
    down = root[:, None] * right[:count] @ q_down.T
    return Weights(
        up=up.float().reshape(weights.up.shape[0], -1, *weights.up.shape[2:]),
        down=down.float().reshape(-1, *weights.down.shape[1:]),
        alpha=float(up.shape[1]),
    )


def _count(values: Tensor, keep: float | None) -> int:
    energy = (values**2).cumsum(0)
    # All of the energy means all that rounding leaves of it: the rest is noise of fp32 factors, 1e-7 of the norm.
    wanted = float(energy[-1]) * (min(keep, 1 - 1e-13) if keep is not None else 1)
    return min(int((energy < wanted).sum()) + 1, len(values))


def blend_error(result: Adapter, parts: Sequence[Part]) -> Report:
    """Return the relative Frobenius error of `result` against the weighted sum, per module and in total, in float64."""
    names = sorted({module for adapter, _ in parts for module in adapter.modules} | set(result.modules))
    return report_of({module: _distance(result.modules.get(module), _at(parts, module)) for module in names})


def _distance(result: Weights | None, parts: Sequence[tuple[Weights, float]]) -> tuple[float, float]:
    meant: list[Factors] = [factors(each, weight) for each, weight in parts]
    got = [] if result is None else [factors(result, -1.0)]
    size = norm(stack(meant)) if meant else 0.0
    # A sum that cancels (A:1 A:-1) is compared with its terms: rounding against nothing would be infinitely wrong.
    terms = math.sqrt(math.fsum(norm(each) ** 2 for each in meant))
    return norm(stack(meant + got)), size if size > 1e-12 * terms else terms


def _concat(parts: Sequence[Part], *, name: str, rank: int | None, keep: float | None) -> Adapter:
    if rank is not None or keep is not None:
        raise UsageError("the method concat is exact and takes no rank or share", hint="use --method svd to cut")
    return collapse(parts, name=name)


def _svd(parts: Sequence[Part], *, name: str, rank: int | None, keep: float | None) -> Adapter:
    if rank is None and keep is None:
        keep = 1.0  # as small as it gets without a loss
    return truncate(collapse(parts, name=name), rank=rank, keep=keep)


METHODS: Mapping[str, Callable[..., Adapter]] = {"concat": _concat, "svd": _svd}
"""What `blend --method` offers."""


def blend(
    parts: Sequence[Part], *, name: str, method: str | None = None, rank: int | None = None, keep: float | None = None
) -> tuple[Adapter, Report]:
    """Return one adapter for a weighted sum, and how far it is from the exact one.

    Without a method: "svd" where a rank or share is asked for, else "concat". Raises UsageError for another method.
    """
    method = method or ("concat" if rank is None and keep is None else "svd")
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}", hint=f"use one of {', '.join(METHODS)}")
    result = METHODS[method](parts, name=name, rank=rank, keep=keep)
    return result, blend_error(result, parts)
