"""What this machine can compute with, and what `auto` comes to on it."""

import torch

from lora_diffusion.errors import DeviceError

__all__ = ["DTYPES", "choose_device", "choose_precision"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32, "fp32": torch.float32}


def choose_device(device: str) -> torch.device:
    """Return the device for auto, cpu or cuda. Raises DeviceError where there is no CUDA device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("run.device is cuda, and torch finds no CUDA device", hint="set run.device=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """Return bf16, fp16 or no. auto takes bf16 where the hardware multiplies it: elsewhere it is slower than fp32."""
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 trains on CUDA devices only", hint="set run.precision=auto, bf16 or no")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if _cpu_multiplies_bf16() else "no"


def _cpu_multiplies_bf16() -> bool:
    asks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # absent from some torch builds
    return any(getattr(torch.cpu, ask, lambda: False)() for ask in asks)
