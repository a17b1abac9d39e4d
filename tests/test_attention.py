"""Every attention kernel gives the same output and gradients within the rounding of bf16."""

import pytest
import torch
from torch import nn

from lora_diffusion.errors import DeviceError
from lora_diffusion.families import attention
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.tiled_attention import tiled_attention


def tensors(queries, keys, heads=2, width=40, spread=1.0, samples=1):
    draw = torch.Generator().manual_seed(0)
    shapes = [(queries, spread), (keys, 1.0), (keys, 1.0), (queries, 1.0)]
    drawn = [torch.randn(samples, n, heads, width, generator=draw) * by for n, by in shapes]
    return [x.bfloat16().transpose(1, 2) for x in drawn]  # the layout in which diffusers hands them over


def plain(q, k, v):
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


def gradients(function, q, k, v, grad):
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    return torch.autograd.grad(function(*inputs), inputs, grad)


def errors(found, exact):
    return [((a.float() - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize(
    ("spread", "tolerance"),
    [(0.1, 0.8e-2), (1.0, 0.8e-2), (4.0, 1.3e-2), (12.0, 3.5e-2)],
    ids=["even", "usual", "peaked", "nearly one-hot"],
)
@pytest.mark.parametrize("shape", [(1024, 1024), (1500, 1100), (2304, 77), (1, 600)])
def test_tiled_gradients_are_those_of_fp32_attention(shape, spread, tolerance):
    given = tensors(*shape, spread=spread)
    exact = gradients(plain, *[x.float() for x in given])
    assert max(errors(gradients(tiled_attention, *given), exact)) < tolerance


def test_tiles_that_do_not_divide_the_keys_change_only_rounding(monkeypatch):
    given = tensors(300, 700, samples=2)
    exact = gradients(plain, *[x.float() for x in given])
    monkeypatch.setattr("lora_diffusion.families.tiled_attention.TILE", 300 * 128)
    assert max(errors(gradients(tiled_attention, *given), exact)) < 0.8e-2


def test_the_forward_pass_is_the_fused_one_to_the_bit():
    q, k, v, _ = tensors(1024, 1024)
    assert torch.equal(tiled_attention(q, k, v), nn.functional.scaled_dot_product_attention(q, k, v))


def block(dtype=torch.bfloat16, **options):
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    return Attention(query_dim=32, heads=2, dim_head=16, **options).to(dtype)


def run(kind, attn, x):
    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = attn

        def set_attn_processor(self, processor):
            self.attn.set_processor(processor)

    use_attention(Denoiser(), {}, kind)
    x = x.detach().requires_grad_()
    y = attn(x)
    return y.detach().float(), torch.autograd.grad(y.float().square().sum(), x)[0].float()


@pytest.mark.parametrize("length", [64, 1024])
@pytest.mark.parametrize("kind", ["auto", "sdpa", "matmul"])
def test_kinds_agree_at_both_sides_of_the_crossing(kind, length):
    x = torch.randn(1, length, 32, generator=torch.Generator().manual_seed(1))
    y, gradient = run(kind, block(), x.bfloat16())
    exact_y, exact_gradient = run("matmul", block().float(), x.bfloat16().float())
    assert errors([y, gradient], [exact_y, exact_gradient]) < [2e-2, 2e-2]


@pytest.mark.parametrize(
    ("attn", "shape"),
    [
        (lambda: block(torch.float32), (1, 1024, 32)),
        (lambda: block(norm_num_groups=4), (1, 1024, 32)),
        (lambda: block(residual_connection=True, rescale_output_factor=2.0), (1, 1024, 32)),
        (lambda: block(qk_norm="layer_norm"), (1, 1024, 32)),
        (lambda: block(), (1, 32, 32, 32)),
    ],
    ids=["fp32", "group norm", "residual", "query norm", "picture"],
)
def test_attention_with_extras_is_left_to_diffusers(attn, shape):
    attn = attn()
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(attn.to_q.weight.dtype)
    assert all(torch.equal(a, b) for a, b in zip(run("auto", attn, x), run("sdpa", attn, x), strict=True))


@pytest.mark.parametrize(("length", "tiled"), [(64, False), (1024, True)])
def test_long_bf16_sequences_are_tiled(monkeypatch, length, tiled):
    seen = []
    monkeypatch.setattr(attention, "tiled_attention", lambda *qkv: seen.append(1) or tiled_attention(*qkv))
    run("auto", block(), torch.randn(1, length, 32).bfloat16())
    assert bool(seen) == tiled


def test_xformers_that_cannot_be_used_says_what_to_do():
    with pytest.raises(DeviceError, match="xformers") as raised:
        run("xformers", block(), torch.randn(1, 4, 32).bfloat16())
    assert "run.attention=auto" in raised.value.hint
