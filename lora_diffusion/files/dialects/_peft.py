"""What a PEFT LoraConfig says about one module."""

import math
import re
from collections.abc import Mapping
from typing import Any

from lora_diffusion.errors import CorruptFile

__all__ = ["alpha_of"]


def alpha_of(config: Mapping[str, Any], path: str, rank: int) -> float:
    """Return alpha with scale = alpha / rank, for a module path, as PEFT reads its config; alpha = rank without one.

    The first pattern that matches wins (peft `get_pattern_key`). With rank-stabilised LoRA the scale is
    alpha / sqrt(rank), which becomes part of alpha here (Kalajdzievski 2023). Raises CorruptFile for a config that
    cannot be read with certainty.
    """
    alpha = config.get("lora_alpha", rank)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if _matches(str(pattern), path):
            alpha = value
            break
    if not isinstance(alpha, int | float):
        raise CorruptFile(f"lora_alpha of {path} is {alpha!r}, not a number")
    return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)


def _matches(pattern: str, path: str) -> bool:
    """Match a whole trailing part of the path. PEFT would run the pattern as a regular expression; a file gets no
    such power here (an evil one runs for hours), and plain paths are what programs write."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.\-]+", plain):
        raise CorruptFile(f"alpha_pattern {pattern!r} is a regular expression; only module paths are read")
    return path == plain or path.endswith(f".{plain}")
