"""Frozen convolutions that keep their weights as the CPU multiplies them.

oneDNN reorders the weight of a bf16 convolution at every call: with 2560 to 1280 channels at 16 x 16 that takes two
thirds of the time. A frozen weight never changes, so it is reordered once; and once more for the backward pass, which
is a convolution with the kernel turned round and its channels swapped.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["can_pack", "pack", "unpack"]


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether packed convolutions exist here: bf16 on a CPU, in a torch with oneDNN."""
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight"))
    return device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available() and there  # type: ignore[no-untyped-call]


def pack(model: nn.Module) -> list[str]:
    """Turn the frozen bf16 convolutions of stride 1 below a module into packed ones; return their names.

    They stay the same objects with the same parameters; only the products change. Each is packed at its first call and
    then holds its weight three times: 2 GB more for Stable Diffusion 1.5. Change no weight before `unpack`.
    """
    found = [name for name, module in model.named_modules() if _suits(module)]
    for name in found:
        model.get_submodule(name).__class__ = _Packed
    return found


def unpack(model: nn.Module) -> None:
    """Undo pack."""
    for module in model.modules():
        if isinstance(module, _Packed):
            module.__dict__.pop("packed", None)
            module.__class__ = nn.Conv2d  # type: ignore[assignment]


def _suits(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.weight.dtype == torch.bfloat16
        and not module.weight.requires_grad
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class _Packed(nn.Conv2d):
    """`pack` makes a Conv2d one of these, so that who looks for a Conv2d still finds it."""

    def forward(self, x: Tensor) -> Tensor:
        if "packed" not in self.__dict__:  # not a buffer: it is no state, and goes with this class
            self.__dict__["packed"] = self._pack(x)
        forward, backward, outer = self.__dict__["packed"]
        node: Any = _Convolution.apply
        result: Tensor = node(x, forward, backward, self.bias, [int(side) for side in self.padding], outer)
        return result

    def _pack(self, x: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Return both weights, laid out best for pictures of the size of x, and the padding of the backward pass."""
        weight, inner, (height, width) = self.weight.detach(), [int(side) for side in self.padding], self.kernel_size
        outer = [height - 1 - inner[0], width - 1 - inner[1]]
        size = [len(x), self.out_channels, x.shape[2] + inner[0] - outer[0], x.shape[3] + inner[1] - outer[1]]
        turned = weight.flip(2, 3).transpose(0, 1)
        return _reordered(weight, inner, list(x.shape)), _reordered(turned, outer, size), outer


class _Convolution(torch.autograd.Function):
    """A convolution of a frozen weight as one node that keeps no activation."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward: Tensor, backward: Tensor, bias: Tensor | None, inner: list[int], outer: list[int]
    ) -> Tensor:
        ctx.backward_weight, ctx.outer = backward, outer
        return _convolved(x, forward, bias, inner)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _convolved(grad, ctx.backward_weight, None, ctx.outer), None, None, None, None, None


def _convolved(x: Tensor, packed: Tensor, bias: Tensor | None, padding: list[int]) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, padding, [1, 1], [1, 1], 1, "none", [], ""
    )
    return result


def _reordered(weight: Tensor, padding: list[int], size: list[int]) -> Tensor:
    result: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, [1, 1], [1, 1], 1, size)
    return result
