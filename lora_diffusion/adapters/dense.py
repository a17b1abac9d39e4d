"""The change that an adapter makes to one weight, as a tensor of the weight's own shape, for every method.

Arithmetic is fp32. `Weights` says what the tensors of each method are.
"""

from typing import TYPE_CHECKING

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError, WrongFamily

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["bias_delta", "delta", "direction"]


def delta(weights: Weights, base: "Tensor | None" = None) -> "Tensor":
    """Return what is added to the base weight, fp32, [out, in] or [out, in, kh, kw] (`weights.shape`).

    `base` is the untouched weight of any floating dtype. Only DoRA needs it; where it is given, the result has its
    shape: the same 1x1 convolution is stored in two and in four dimensions. Raises UsageError for DoRA without a base,
    WrongFamily where the base has another size.
    """
    change = direction(weights)
    if base is not None:
        if change.shape[0] != base.shape[0] or change.numel() != base.numel():
            raise WrongFamily(
                f"a delta of shape {tuple(change.shape)} does not fit a base weight of shape {tuple(base.shape)}",
                hint="use the adapter with the kind of base model that it was trained on",
            )
        change = change.reshape(base.shape)
    if "dora_scale" not in weights.extra:
        return change
    if base is None:
        raise UsageError(
            "the delta of a weight-decomposed adapter (DoRA) depends on the base weight",
            hint="name the base model that it was trained on: blend, resize and conflict take one with --base",
        )
    return _decomposed(base.float(), change, weights.extra["dora_scale"].float())


def direction(weights: Weights) -> "Tensor":
    """Return the delta before any weight decomposition, fp32: for DoRA what is added before the norm is set."""
    if weights.method == "full":
        return weights.up.float()
    return _PRODUCTS[weights.method](weights).mul_(weights.scale).reshape(weights.shape)


def bias_delta(weights: Weights) -> "Tensor | None":
    """Return what is added to the bias of the base, fp32 [out], or None for most adapters."""
    bias: Tensor | None = weights.extra.get("bias")
    return None if bias is None else bias.float()


def _decomposed(base: "Tensor", change: "Tensor", norms: "Tensor") -> "Tensor":
    """Return dora_scale * V / norm(V) - W for V = W + change (Liu et al. 2024, equation 5).

    The paper norms columns; programs norm rows or columns, and the shape of the stored norms tells which.
    """
    import torch

    whole = base + change
    by_row = norms.numel() == base.shape[0] and norms.shape[0] == base.shape[0]
    axes = [axis for axis in range(base.ndim) if axis != (0 if by_row else 1)]
    found = torch.linalg.vector_norm(whole, dim=axes, keepdim=True)
    if norms.numel() != found.numel():
        raise WrongFamily(f"{norms.numel()} norms do not fit a base weight of shape {tuple(base.shape)}")
    # a row of zeros has no direction, and stays one of zeros
    gain: Tensor = norms.reshape(found.shape) / torch.where(found > 0, found, 1.0)
    return whole * gain - base


def _lora(weights: Weights) -> "Tensor":
    up, down = weights.up.float().flatten(1), weights.down.float().flatten(1)
    return _tucker(up, weights.extra["mid"].float(), down) if "mid" in weights.extra else up @ down


def _loha(weights: Weights) -> "Tensor":
    tensors = {role: each.float() for role, each in weights.tensors().items()}
    if "mid" not in tensors:
        return (tensors["up"] @ tensors["down"]) * (tensors["up2"] @ tensors["down2"])
    first = _tucker(tensors["up"], tensors["mid"], tensors["down"])
    return first * _tucker(tensors["up2"], tensors["mid2"], tensors["down2"])


def _lokr(weights: Weights) -> "Tensor":
    import torch

    tensors = {role: each.float() for role, each in weights.tensors().items()}
    first = tensors["up"] @ tensors["w1_b"] if "w1_b" in tensors else tensors["up"]
    second = tensors["down"]
    if "mid" in tensors:
        second = _tucker(tensors["w2_a"], tensors["mid"], second)
    elif "w2_a" in tensors:
        second = tensors["w2_a"] @ second
    return torch.kron(first, second.flatten(1))


def _tucker(up: "Tensor", mid: "Tensor", down: "Tensor") -> "Tensor":
    """Return sum over i, j of up[o, i] mid[i, j, h, w] down[j, c] as [o, c, h, w]."""
    import torch

    return torch.einsum("oi,ijhw,jc->ochw", up, mid, down)


_PRODUCTS = {"lora": _lora, "loha": _loha, "lokr": _lokr}
