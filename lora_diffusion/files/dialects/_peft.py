"""What a PEFT LoraConfig says about one module."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.files.dialects._common import rank_of
from lora_diffusion.files.dialects._patterns import matches_end

__all__ = ["alpha_of", "magnitude", "pieces_for_peft", "uses_dora"]

_SUBTRACTED = ("pissa", "olora", "corda", "loftq")
"""Beginnings of trainings that take what the factors begin with out of the base (peft 0.21 `LoraLayer.pissa_init`)."""


def alpha_of(config: Any, path: str, pieces: Mapping[str, Tensor]) -> float | None:
    """Return alpha with scale = alpha / rank, for a module, as PEFT reads its config; None where it says nothing.

    The first pattern that matches wins (peft `get_pattern_key`). With rank-stabilised LoRA the scale is
    alpha / sqrt(rank), which becomes part of alpha here (Kalajdzievski 2023). Raises CorruptFile for a config that
    cannot be read with certainty.
    """
    config, down = _mapping(config, "the adapter configuration"), pieces["down"]
    if str(begun := config.get("init_lora_weights")).lower().startswith(_SUBTRACTED):
        raise CorruptFile(
            f"init_lora_weights is {begun!r}: a part of the base model lies in these factors, they are not the change",
            hint="save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA of it",
        )
    if config.get("use_dora") is True and "dora_scale" not in pieces:
        raise CorruptFile(
            f"{path} has no lora_magnitude_vector, and use_dora says that it is weight-decomposed",
            hint="get the whole adapter; if it was trained without DoRA, set use_dora to false in its configuration",
        )
    alpha = config.get("lora_alpha")
    for pattern, value in _mapping(config.get("alpha_pattern"), "alpha_pattern").items():
        if _matches(str(pattern), path):
            alpha = value
            break
    if alpha is None and not config.get("use_rslora"):
        return None
    alpha = rank_of(down) if alpha is None else alpha
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise CorruptFile(f"lora_alpha of {path} is {alpha!r}, not a number")
    return float(alpha) * (math.sqrt(rank_of(down)) if config.get("use_rslora") else 1.0)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if value is None or isinstance(value, Mapping):
        return value or {}
    raise CorruptFile(f"{what} is {str(value)[:40]!r}, not an object")


def _matches(pattern: str, path: str) -> bool:
    """Match as PEFT does; it knows text encoders with and without the level `text_model`."""
    return any(matches_end(pattern, each) for each in dict.fromkeys((path, path.removeprefix("text_model."))))


def magnitude(tensor: Tensor) -> Tensor:
    """Return the norms of rows with the rows first: PEFT keeps those of a convolution as [1, out, 1, 1]."""
    return tensor.reshape(-1, 1, 1, 1) if tensor.ndim == 4 else tensor


def uses_dora(modules: Mapping[str, Weights]) -> bool:
    """Say whether a component is weight-decomposed, which PEFT knows for all of its modules or for none.

    Raises UsageError naming the first module that PEFT cannot hold: another method than LoRA, a Tucker factor, norms of
    columns, or decomposed modules beside plain ones.
    """
    for module, weights in modules.items():
        norms = weights.extra.get("dora_scale")
        if "mid" in weights.extra:
            raise UsageError(
                f"{module} has a Tucker factor (lora_mid), which this dialect does not hold",
                hint="write the kohya dialect, or convert it to a plain LoRA first",
            )
        if weights.method != "lora":
            raise UsageError(
                f"{module} is of the method {weights.method}, which this dialect does not hold",
                hint="write the kohya dialect, or convert it to a plain LoRA first",
            )
        if norms is not None and norms.shape[0] != weights.shape[0]:
            raise UsageError(f"{module} is decomposed by columns, PEFT by rows", hint="write the kohya dialect")
    decomposed = sum("dora_scale" in weights.extra for weights in modules.values())
    if decomposed not in (0, len(modules)):
        raise UsageError("only some modules are weight-decomposed, PEFT knows all or none", hint="write kohya")
    return decomposed > 0


def pieces_for_peft(weights: Weights) -> dict[str, Tensor]:
    """Return the tensors of a module by the name that PEFT gives them."""
    pieces = {"lora_A.weight": weights.down, "lora_B.weight": weights.up}
    norms = weights.extra.get("dora_scale")
    if norms is not None:
        ndim = weights.down.ndim
        pieces["lora_magnitude_vector"] = norms.reshape(1, -1, 1, 1) if ndim == 4 else norms.reshape(-1)
    return pieces
