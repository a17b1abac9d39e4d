"""Attention in bf16 on a CPU whose backward pass is made of matrix products over tiles of the score matrix.

ATen's fused backward pass takes a third of a training step of Stable Diffusion 1.5 there. It computes scores in fp32
blocks of 32 x 512; products over tiles of some megabytes run at the rate of the matrix units instead.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["tiled_attention"]

TILE = 2**21
"""Scores per tile. Milliseconds of the backward pass on one AMX core at 8 heads of 4096 x 4096: 376, 323 and 326 with
2**20, 2**21 and 2**22 scores, against 468 of ATen; at 1024 x 1024 30 against 40."""


def tiled_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v of bf16 tensors [n, heads, length, d] on a CPU.

    The forward pass is ATen's. Gradients differ from those in fp32 by 0.6e-2 of their norm where the scores spread by
    1, by 1.1e-2 at 4 and 3e-2 at 12, where each row is nearly one-hot (ATen's own: 0.4, 0.5 and 0.7e-2). It is
    rounding: along the gradient itself they differ by less than 2e-3.
    """
    node: Any = _TiledAttention.apply
    result: Tensor = node(q, k, v)
    return result


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse = ctx.saved_tensors
        shape_q, shape_k = q.shape, k.shape
        q, k, v, out, grad = (t.flatten(0, 1).contiguous() for t in (q, k, v, out, grad))
        found = [_gradients(*head) for head in zip(q, k, v, out, lse.flatten(0, 1), grad, strict=True)]
        gq, gk, gv = (torch.stack(each) for each in zip(*found, strict=True))
        return gq.view(shape_q), gk.view(shape_k), gv.view(shape_k)


def _gradients(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of one head: q, out and grad are [queries, d], k and v [keys, d], lse [queries].

    With P = exp(k q^T - lse) and S = P * (v grad^T - sum(out * grad)), both [keys, queries]:
    dv = P grad, dk = S q, dq = S^T k. What is subtracted rides along as further columns of the products.
    """
    queries, keys, scale = len(q), len(k), q.shape[-1] ** -0.5
    # Halfway between the score of an even spread and that of certainty bf16 rounds either least; undone at the end.
    shift = math.log(keys) / 2
    q_and_lse = _with_columns(q * scale, shift - lse).t().contiguous()
    grad_and_sum = _with_columns(grad, -(out.float() * grad.float()).sum(-1)).t().contiguous()
    ones = q.new_ones(keys, 2)
    k_and_ones, v_and_ones = torch.cat([k, ones], 1), torch.cat([v, ones], 1)
    gq, gk, gv = torch.zeros(q.t().shape), torch.empty_like(k), torch.empty_like(v)
    rows = min(keys, max(1, TILE // queries))
    buffers = q.new_empty(2, rows, queries)  # a new pair per tile would leave the cache each time
    for start in range(0, keys, rows):
        some = slice(start, start + rows)
        p, s = buffers[:, : min(rows, keys - start)]
        torch.mm(k_and_ones[some], q_and_lse, out=p).exp_()
        torch.mm(v_and_ones[some], grad_and_sum, out=s).mul_(p)
        torch.mm(p, grad, out=gv[some])
        torch.mm(s, q, out=gk[some])
        gq += k[some].t() @ s
    undo = math.exp(-shift)
    return (gq.t() * (scale * undo)).to(q.dtype), gk.mul_(scale * undo), gv.mul_(undo)


def _with_columns(x: Tensor, column: Tensor) -> Tensor:
    """Return x with an fp32 column behind it as two bf16 ones, which add up to 16 bits of it."""
    high = column.to(x.dtype)
    low = (column - high.float()).to(x.dtype)
    return torch.cat([x, high[:, None], low[:, None]], 1)
