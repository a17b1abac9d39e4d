"""What a PEFT LoraConfig says about one module."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.dialects._common import rank_of

__all__ = ["alpha_of"]


def alpha_of(config: Any, path: str, down: Tensor) -> float:
    """Return alpha with scale = alpha / rank, for a module, as PEFT reads its config; alpha = rank without one.

    The first pattern that matches wins (peft `get_pattern_key`). With rank-stabilised LoRA the scale is
    alpha / sqrt(rank), which becomes part of alpha here (Kalajdzievski 2023). Raises CorruptFile for a config that
    cannot be read with certainty.
    """
    config = _mapping(config, "the adapter configuration")
    rank = rank_of(down)
    alpha = config.get("lora_alpha", rank)
    for pattern, value in _mapping(config.get("alpha_pattern"), "alpha_pattern").items():
        if _matches(str(pattern), path):
            alpha = value
            break
    if not isinstance(alpha, int | float):
        raise CorruptFile(f"lora_alpha of {path} is {alpha!r}, not a number")
    return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise CorruptFile(f"{what} is {str(value)[:40]!r}, not an object")


def _matches(pattern: str, path: str) -> bool:
    """Match a whole trailing part of the path. PEFT would run the pattern as a regular expression; a file gets no
    such power here (an evil one runs for hours), and plain paths are what programs write."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not re.fullmatch(r"[\w.\-]+", plain):
        raise CorruptFile(f"alpha_pattern {pattern!r} is a regular expression; only module paths are read")
    return path == plain or path.endswith(f".{plain}")
