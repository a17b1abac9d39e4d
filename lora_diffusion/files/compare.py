"""Are two sets of modules the same change of a base model?"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lora_diffusion.adapters.dense import direction
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import VerificationFailed
from lora_diffusion.files.factors import Factors, factors, quick_norm, stack
from lora_diffusion.files.report import Report, report_of

__all__ = ["compare", "require_same"]

# Relative error of one delta that rounding both factors may bring: 2 * 2^-11 for fp16, 2 * 2^-8 for bf16, with room for
# tensors whose values differ by orders of magnitude. Beyond it, something other than rounding happened.
_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
_EXACT = 1e-6
_BESIDE = ("dora_scale", "bias")


def compare(result: Mapping[str, Weights], meant: Mapping[str, Weights]) -> Report:
    """Return the relative error of each delta. Raises VerificationFailed where the modules are not the same."""
    if different := sorted(set(result) ^ set(meant)):
        raise VerificationFailed(f"{different[0]} is in one of the two only ({len(different)} modules differ)")
    return report_of({name: _error(result[name], meant[name]) for name in meant})


def _error(result: Weights, meant: Weights) -> tuple[float, float]:
    """A decomposed module is compared in its direction and its norms: the delta itself needs the base.

    A change of the bias weighs as much as one of the weight: all of it lost is an error of 1.
    """
    norms = sum(_beside_error(result, meant, role) for role in _BESIDE)
    size = quick_norm(factors(_undecomposed(meant)))
    if result.alpha == meant.alpha and _equal(result, meant):
        return norms * size, size
    return quick_norm(_difference(result, meant)) + norms * size, size


def _difference(result: Weights, meant: Weights) -> Factors:
    one, other = _undecomposed(result), _undecomposed(meant)
    if one.method == other.method == "lora":
        return stack((factors(one), factors(other, -1.0)))
    return factors(Weights(method="full", up=direction(one) - direction(other), down=torch.empty(0), alpha=1.0))


def _undecomposed(weights: Weights) -> Weights:
    return replace(weights, extra={role: each for role, each in weights.extra.items() if role not in _BESIDE})


def _beside_error(result: Weights, meant: Weights, role: str) -> float:
    """Return the relative error of the norms of a decomposition or of a bias, 1 where one of the two has none."""
    one, other = result.extra.get(role), meant.extra.get(role)
    if one is None or other is None:
        return float(one is not other)
    one, other = one.double().flatten(), other.double().flatten()
    return float((one - other).norm() / other.norm()) if len(one) == len(other) and other.any() else float(one is other)


def _equal(one: Weights, other: Weights) -> bool:
    ours, theirs = _undecomposed(one).tensors(), _undecomposed(other).tensors()
    return ours.keys() == theirs.keys() and all(
        ours[role].shape[:2] == theirs[role].shape[:2] and _same_values(ours[role], theirs[role]) for role in ours
    )


def _same_values(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.flatten().float(), other.flatten().float())


def require_same(result: Mapping[str, Weights], meant: Mapping[str, Weights], dtype: torch.dtype | None) -> Report:
    """Return the error of `result`. Raises VerificationFailed naming the first delta that lost more than rounding."""
    report = compare(result, meant)
    allowed = _TOLERANCES.get(dtype, _EXACT) if dtype else _EXACT
    for name, error in report.layers.items():
        if not error <= allowed:
            raise VerificationFailed(
                f"{name} reads back with a relative error of {error:.2g}; {dtype or 'fp32'} allows {allowed:.2g}",
                hint="write it in fp32; nothing was changed on disk",
            )
    return report
