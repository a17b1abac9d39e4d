"""Are two sets of modules the same change of a base model?"""

from collections.abc import Mapping

import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import VerificationFailed
from lora_diffusion.files.factors import factors, norm, stack
from lora_diffusion.files.report import Report, report_of

__all__ = ["compare", "require_same"]

# Relative error of one delta that rounding both factors may bring: 2 * 2^-11 for fp16, 2 * 2^-8 for bf16, with room for
# tensors whose values differ by orders of magnitude. Beyond it, something other than rounding happened.
_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 2e-2}
_EXACT = 1e-6


def compare(result: Mapping[str, Weights], meant: Mapping[str, Weights]) -> Report:
    """Return the relative error of each delta. Raises VerificationFailed where the modules are not the same."""
    if different := sorted(set(result) ^ set(meant)):
        raise VerificationFailed(f"{different[0]} is in one of the two only ({len(different)} modules differ)")
    return report_of({name: _error(result[name], meant[name]) for name in meant})


def _error(result: Weights, meant: Weights) -> tuple[float, float]:
    size = norm(factors(meant))
    if result.alpha == meant.alpha and _equal(result, meant):
        return 0.0, size
    return norm(stack((factors(result), factors(meant, -1.0)))), size


def _equal(one: Weights, other: Weights) -> bool:
    pairs = ((one.down, other.down), (one.up, other.up))
    return all(torch.equal(a.flatten(1).float(), b.flatten(1).float()) for a, b in pairs)


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
