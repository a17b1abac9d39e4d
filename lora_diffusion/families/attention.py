"""Which attention kernel the denoiser and the text encoders use."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_diffusion.errors import DeviceError
from lora_diffusion.families.tiled_attention import tiled_attention

__all__ = ["use_attention"]

MATMUL_UP_TO = 512 * 1024
"""Query times key positions up to which plain matmul attention wins in the forward and backward pass on a CPU.

Measured in bf16 on 2 AMX cores, milliseconds of fused against matmul: 256 x 256 3.8 and 2.3, 4096 x 77 16 and 7,
1024 x 1024 25 and 30, 4096 x 4096 291 and 477. Above it the fused forward pass has a tiled backward pass in bf16.
Without gradients the fused kernel is never slower."""


def use_attention(denoiser: nn.Module, text_encoders: dict[str, nn.Module], kind: str) -> None:
    """Set the attention of a loaded base model: auto, sdpa, xformers or matmul.

    Raises DeviceError where xformers is asked for and absent, with what to install.
    """
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    device = next(denoiser.parameters()).device
    if kind == "xformers" or (kind == "auto" and device.type == "cuda" and _has_xformers()):
        _use_xformers(denoiser, device)
    else:
        processors = {"sdpa": AttnProcessor2_0, "matmul": AttnProcessor, "auto": _fastest(device)}
        denoiser.set_attn_processor(processors[kind]())  # type: ignore[operator]
    eager = kind == "matmul" or (kind == "auto" and device.type == "cpu")
    for encoder in text_encoders.values():  # 77 positions at most: short of the crossing by far
        encoder.set_attn_implementation("eager" if eager else "sdpa")  # type: ignore[operator]


def _fastest(device: torch.device) -> type[Any]:
    from diffusers.models.attention_processor import AttnProcessor2_0

    return _ByLength if device.type == "cpu" else AttnProcessor2_0


class _ByLength:
    """What is fastest on a CPU: matmul attention for short sequences, tiled for long ones, fused without gradients."""

    def __init__(self) -> None:
        from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

        self._matmul, self._fused, self._tiled = AttnProcessor(), AttnProcessor2_0(), _Tiled()

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any
    ) -> Tensor:
        queries = hidden_states.shape[2:].numel() if hidden_states.ndim == 4 else hidden_states.shape[1]
        keys = queries if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        processor = self._fused
        if torch.is_grad_enabled():
            if queries * keys <= MATMUL_UP_TO:
                processor = self._matmul
            elif self._tiled.can(attn, hidden_states, others):
                processor = self._tiled
        result: Tensor = processor(attn, hidden_states, encoder_hidden_states, **others)
        return result


class _Tiled:
    """The attention of a transformer block, without the extras that diffusers' Attention has for other models."""

    def can(self, attn: Any, hidden_states: Tensor, others: Mapping[str, Any]) -> bool:
        extras = (attn.group_norm, attn.spatial_norm, attn.norm_q, attn.norm_k, attn.norm_cross)
        return (
            hidden_states.dtype == torch.bfloat16
            and hidden_states.ndim == 3
            and not any(extras)
            and not attn.residual_connection
            and attn.rescale_output_factor == 1
            and others.get("attention_mask") is None
        )

    def __call__(self, attn: Any, hidden_states: Tensor, context: Tensor | None = None, **others: Any) -> Tensor:
        context = hidden_states if context is None else context
        q, k, v = (
            x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        mixed = tiled_attention(q, k, v).transpose(1, 2).flatten(2)
        result: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return result


def _has_xformers() -> bool:
    from importlib.util import find_spec

    return find_spec("xformers") is not None


def _use_xformers(denoiser: nn.Module, device: torch.device) -> None:
    if not _has_xformers():
        raise DeviceError(
            "run.attention is xformers, which is not installed",
            hint="pip install 'lora-diffusion[cuda]', or set run.attention=auto",
        )
    if device.type != "cuda":
        raise DeviceError(f"xformers needs a CUDA device, and this is {device}", hint="set run.attention=auto")
    from diffusers.models.attention_processor import XFormersAttnProcessor

    denoiser.set_attn_processor(XFormersAttnProcessor())  # type: ignore[operator]
