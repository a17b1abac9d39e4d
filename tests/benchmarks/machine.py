"""What a figure was measured on, and how it is put."""

import platform
import resource
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch


def describe(device: torch.device) -> str:
    """Return the machine and the library in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    kinds = [kind for kind in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if any(kind in line for line in lines)]
    return f"{name}, {torch.get_num_threads()} threads, {kinds[0] if kinds else 'no'} units, torch {torch.__version__}"


def peak_gib(device: torch.device) -> float:
    """Return the peak memory of this process in GiB: allocated on the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return median and minimum as text."""
    return f"{statistics.median(values):.{digits}f} / {min(values):.{digits}f}"
