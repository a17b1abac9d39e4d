"""Which attention kernel the denoiser and the text encoders use."""

from typing import Any

import torch
from torch import Tensor, nn

from lora_diffusion.errors import DeviceError

__all__ = ["use_attention"]

MATMUL_UP_TO = 512 * 1024
"""Query times key positions up to which plain matmul attention wins in the forward and backward pass on a CPU.

Measured in bf16 on 2 AMX cores, milliseconds of fused against matmul: 256 x 256 3.8 and 2.3, 4096 x 77 16 and 7,
1024 x 1024 25 and 30, 4096 x 4096 291 and 477. Without gradients the fused kernel is never slower."""


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
    """Matmul attention where a gradient is needed and the sequences are short, the fused kernel elsewhere."""

    def __init__(self) -> None:
        from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

        self._matmul, self._fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any
    ) -> Tensor:
        queries = hidden_states.shape[2:].numel() if hidden_states.ndim == 4 else hidden_states.shape[1]
        keys = queries if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        short = torch.is_grad_enabled() and queries * keys <= MATMUL_UP_TO
        processor = self._matmul if short else self._fused
        result: Tensor = processor(attn, hidden_states, encoder_hidden_states, **others)
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
