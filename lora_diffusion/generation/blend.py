"""Weighted sums of adapters: as weights of live adapters, and as one adapter that equals or approaches the sum.

delta* = sum of w_i * alpha_i / r_i * up_i @ down_i. Adding factors (up_1 + up_2) @ (down_1 + down_2) is another thing:
cross terms make its error as large as the blend itself. Every method of `generation.blending` works on true deltas, and
says how far its result is from the weighted sum.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, VerificationFailed, WrongFamily
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.assembly import is_finite
from lora_diffusion.files.dense import bias_delta, delta
from lora_diffusion.files.factors import factors, norm
from lora_diffusion.files.metadata import TRIGGER
from lora_diffusion.files.report import Report, report_of
from lora_diffusion.generation.blending import (
    DENSITY,
    Fitted,
    How,
    Method,
    Term,
    concat,
    method_named,
    methods,
    require_one_shape,
)
from lora_diffusion.generation.distance import distance
from lora_diffusion.generation.orthogonal import project
from lora_diffusion.lowrank import Bases, cut, low_rank, require_limit, with_bias, without_bias
from lora_diffusion.parts import PartSpec, Weight, module_weights, require_finite

__all__ = ["Blend", "Blended", "Part", "blend", "blend_error", "collapse", "require_one_family", "truncate"]

Part = tuple[Adapter, Weight]
"""An adapter and its weight: a number, or a PartSpec with weights per block. Negative weights remove a look."""


@dataclass(frozen=True, eq=False)  # equal as the mapping that it is
class Blend(Mapping[str, Weight]):
    """The weight of each adapter by name; 0 switches one off. Raises UsageError for a weight that is not finite."""

    weights: Mapping[str, Weight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not isinstance(weight, PartSpec):
                require_finite(name, weight)

    def __getitem__(self, name: str) -> Weight:
        return self.weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True, kw_only=True)
class Blended:
    """One adapter made of several.

    `report` compares it with the weighted sum, per module and in total. `fit` is what its factors leave out of the
    matrices that the method arrived at; `conversion` what turning deltas of other methods than LoRA into factors lost;
    `given_up` what projecting off the protected adapter took from the others, as a share of their norm.
    """

    adapter: Adapter
    method: str
    report: Report
    fit: Report
    conversion: Report
    given_up: Report


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


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """An adapter with the weight of each of its modules."""

    adapter: Adapter
    weight: Weight
    at: Mapping[str, float]


def _checked(parts: Sequence[Part]) -> list[_Taken]:
    """Sum in an order of the content, so that the order of the arguments leaves no trace, not even in the last bit."""
    require_one_family([adapter for adapter, _ in parts])
    taken = []
    for adapter, weight in parts:
        if not isinstance(weight, PartSpec):
            require_finite(adapter.name, weight)
        at = module_weights(weight, adapter.modules, family=adapter.family)
        taken.append(_Taken(adapter=adapter, weight=weight, at=at))
    taken = [each for each in taken if any(each.at.values())]
    if not taken:
        raise UsageError("all weights are 0, so the blend is nothing", hint="give at least one adapter another weight")
    return sorted(taken, key=lambda each: (each.adapter.fingerprint, sorted(each.at.items()), each.adapter.name))


def collapse(adapters: Sequence[Part], *, name: str) -> Adapter:
    """Return one adapter whose deltas are the weighted sums, exactly: ranks add up, alpha = rank, so the scale is 1.

    Works for any ranks, alphas and signs, and does not depend on the order. Tensors are fp32. Raises WrongFamily for
    adapters of different families or sizes, UsageError for weights that are not finite or all 0.
    """
    return blend(adapters, name=name, method=concat.name).adapter


def truncate(adapter: Adapter, *, rank: int | None = None, keep: float | None = None) -> Adapter:
    """Return the best approximation of each delta at a rank, or at the smallest rank that keeps a share of its energy.

    `keep` is a share of the squared Frobenius norm, in each module, so also in total. The best fit comes from an SVD of
    the small core between two QR decompositions (Eckart and Young 1936); the full matrix is never formed. Convolutions
    are factored as [out, in * kh * kw]. A module whose rank is already as low stays as it is.
    """
    require_limit(rank, keep)
    modules = {}
    for name, each in adapter.modules.items():
        plain, _ = low_rank(without_bias(each), name=f"{adapter.name} at {name}")
        modules[name] = with_bias(cut(plain, rank=rank, keep=keep), each.extra.get("bias"))
    return replace(adapter, modules=modules)


def blend_error(result: Adapter, parts: Sequence[Part], base: Path | str | None = None) -> Report:
    """Return the relative Frobenius error of `result` against the weighted sum, per module and in total, in float64.

    `base` is the base model, which parts with DoRA need.
    """
    bases = Bases(base)
    tables = [(adapter, module_weights(weight, adapter.modules, family=adapter.family)) for adapter, weight in parts]
    names = sorted({module for adapter, _ in tables for module in adapter.modules} | set(result.modules))
    sizes = {}
    for module in names:
        meant = [(adapter.modules[module], table[module]) for adapter, table in tables if module in adapter.modules]
        sizes[module] = distance(result.modules.get(module), meant, bases.for_any(module, [each for each, _ in meant]))
    return report_of(sizes)


def blend(
    parts: Sequence[Part],
    *,
    name: str,
    method: str | None = None,
    rank: int | None = None,
    keep: float | None = None,
    density: float | None = None,
    seed: int | None = None,
    orthogonal_to: Adapter | None = None,
    base: Path | str | None = None,
) -> Blended:
    """Return one adapter for a weighted sum, and how far it is from the exact one.

    Without a method: "svd" where a rank or share is asked for, else "concat". `rank` or `keep` limits each module,
    `density` is the share of entries that ties, dare and magnitude keep, `seed` decides what dare drops.
    `orthogonal_to`, one of the adapters, keeps its effect: the others are projected off its column and row spaces.
    `base` is the base model; only DoRA needs it, whose delta depends on it. Changes of biases add up as they are.
    The result does not depend on the order of the parts. Raises UsageError for another method, an option that the
    method does not take or a weight that is no number, WrongFamily for adapters that do not belong together.
    """
    chosen = method_named(method or (concat.name if rank is None and keep is None else "svd"))
    how = _how(chosen, rank=rank, keep=keep, density=density, seed=seed)
    taken = _checked(parts)
    kept = _protected(taken, orthogonal_to)
    done = _Done(bases=Bases(base))
    for module in sorted({module for each in taken for module in each.at}):
        done.add(module, chosen, replace(how, module=module), _terms(taken, module, done), kept)
    adapter = Adapter(
        name=name,
        family=taken[0].adapter.family,
        modules=done.modules,
        metadata=_metadata(taken, chosen, how, orthogonal_to),
        embeddings=_embeddings(taken),
        repairs=tuple(dict.fromkeys(line for each in taken for line in each.adapter.repairs)),
    )
    return Blended(
        adapter=adapter,
        method=chosen.name,
        report=blend_error(adapter, parts, base),
        fit=report_of(done.fit),
        conversion=report_of(done.conversion),
        given_up=report_of(done.given_up),
    )


def _how(chosen: Method, *, rank: int | None, keep: float | None, density: float | None, seed: int | None) -> How:
    asked = {"rank": rank, "keep": keep, "density": density, "seed": seed}
    for option, value in asked.items():
        if value is not None and option not in chosen.takes:
            takers = ", ".join(each.name for each in methods().values() if option in each.takes)
            raise UsageError(f"the method {chosen.name} takes no {option}", hint=f"these take one: {takers}")
    if rank is not None or keep is not None:
        require_limit(rank, keep)
    if density is not None and not 0 < density <= 1:
        raise UsageError(f"a density of {density} is not possible", hint="use a number above 0 and up to 1")
    return How(rank=rank, keep=keep, density=DENSITY if density is None else density, seed=seed or 0)


def _protected(taken: Sequence[_Taken], adapter: Adapter | None) -> str | None:
    if adapter is None:
        return None
    if all(each.adapter.fingerprint != adapter.fingerprint for each in taken):
        raise UsageError(
            f"{adapter.name} is to be kept untouched, but is none of the adapters with a weight",
            hint="name it among the adapters too",
        )
    return adapter.fingerprint


@dataclass(kw_only=True)
class _Done:
    """What fills up while modules pass by: the weights, and (norm of the error, norm of what was meant) of each."""

    bases: Bases
    modules: dict[str, Weights] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    fit: dict[str, tuple[float, float]] = field(default_factory=dict)
    conversion: dict[str, tuple[float, float]] = field(default_factory=dict)
    given_up: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, module: str, method: Method, how: How, terms: list[Term], kept: str | None) -> None:
        if not terms:
            return
        require_one_shape(terms, module)
        if kept is not None:
            terms, lost, before = project(terms, kept)
            self.given_up[module] = lost, before
        fitted = _combined(method, terms, how)
        self.modules[module] = with_bias(fitted.weights, self.biases.get(module))
        self.fit[module] = fitted.lost, fitted.size


def _combined(method: Method, terms: Sequence[Term], how: How) -> Fitted:
    try:
        fitted = method.combine(terms, how)
    except RuntimeError:  # LinAlgError: what an SVD says of numbers that are infinite
        fitted = None
    if fitted is None or not all(is_finite(each) for each in fitted.weights.tensors().values()):
        raise VerificationFailed(
            f"{how.module} becomes infinite with these adapters and weights", hint="lower the weights; 0 to 1 is usual"
        )
    return fitted


def _terms(taken: Sequence[_Taken], module: str, done: _Done) -> list[Term]:
    """Return what the adapters add to one module; deltas of other methods become factors, with a note of the loss."""
    result = []
    for each in taken:
        if not each.at.get(module):
            continue
        whole, by = each.adapter.modules[module], each.at[module]
        found = without_bias(whole)
        if (bias := bias_delta(whole)) is not None:
            done.biases[module] = by * bias + done.biases.get(module, 0)
        base = done.bases.for_any(module, [found])
        weights, lost = low_rank(found, name=f"{each.adapter.name} at {module}", base=base)
        if weights is not found:
            before = done.conversion.get(module, (0.0, 0.0))
            size = norm(factors(weights))
            done.conversion[module] = math.hypot(before[0], lost), math.hypot(before[1], size)
        full = None if weights is found else partial(delta, found, base)
        result.append(Term(weights=weights, weight=by, key=each.adapter.fingerprint, full=full))
    return result


def _metadata(taken: Sequence[_Taken], chosen: Method, how: How, kept: Adapter | None) -> dict[str, str]:
    first, *others = (each.adapter.metadata for each in taken)
    shared = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
    triggers = list(dict.fromkeys(each.adapter.trigger for each in taken if each.adapter.trigger))
    asked = {key: value for key, value in asdict(how).items() if key in chosen.takes and value is not None}
    recipe = {"method": chosen.name, **asked, "parts": [_recipe(each) for each in taken]}
    if kept is not None:
        recipe["orthogonal_to"] = kept.fingerprint
    own = {"lora_diffusion.blend": json.dumps(recipe)} | ({TRIGGER: ", ".join(triggers)} if triggers else {})
    return {key: value for key, value in shared.items() if key not in ("modelspec.title", "ss_output_name")} | own


def _recipe(each: _Taken) -> dict[str, object]:
    """Name an adapter by what it is, never by where it lies."""
    result: dict[str, object] = {"name": each.adapter.name, "fingerprint": each.adapter.fingerprint}
    if not isinstance(each.weight, PartSpec):
        return {**result, "weight": each.weight}
    result["weight"] = each.weight.weight
    if each.weight.overrides:
        result["overrides"] = dict(each.weight.overrides)
    if each.weight.presets:
        result["presets"] = list(each.weight.presets)
    return result


def _embeddings(taken: Sequence[_Taken]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for each in taken:
        for token, vector in each.adapter.embeddings.items():
            if token in result and not result[token].equal(vector):
                raise UsageError(
                    f"two adapters bring different embeddings for the token {token}", hint="blend one of them alone"
                )
            result[token] = vector
    return result
