"""What this machine can compute with, and what `auto` comes to on it."""

import ctypes
import sys
from contextlib import suppress

import torch

from lora_diffusion.errors import DeviceError, UsageError

__all__ = ["DTYPES", "choose_device", "choose_precision", "keep_freed_memory"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32, "fp32": torch.float32}


def choose_device(device: str) -> torch.device:
    """Return the device for auto, cpu or cuda. Raises DeviceError where there is no CUDA device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("run.device is cuda, and torch finds no CUDA device", hint="set run.device=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """Return bf16, fp16 or no. auto takes bf16 where the hardware multiplies it: elsewhere it is slower than fp32."""
    if precision not in ("auto", "bf16", "fp16", "no"):
        raise UsageError(f"precision {precision!r} is not known", hint="use auto, bf16, fp16 or no")
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is for CUDA devices, and this is a CPU", hint="use auto, bf16 or no as the precision")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if _cpu_multiplies_bf16() else "no"


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks for the next step instead of giving them back and faulting them in again.

    Worth 9-12 % of a step of Stable Diffusion 1.5 on a CPU, whose activations are some hundred large blocks. Does
    nothing where the C library is another one.
    """
    if sys.platform != "linux":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # M_* of malloc.h
    with suppress(AttributeError, OSError):
        tune = ctypes.CDLL(None).mallopt
        tune(mmap_max, 0)
        tune(trim_threshold, 2**31 - 1)
        tune(top_pad, 64 * 2**20)


def _cpu_multiplies_bf16() -> bool:
    asks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # absent from some torch builds
    return any(getattr(torch.cpu, ask, lambda: False)() for ask in asks)
