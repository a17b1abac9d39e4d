"""From the pieces that a dialect found to the weights of modules; strict, or tolerant with a list of what is wrong."""

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.dialects import Parts, Pieces

__all__ = ["assemble", "problem", "weights_of"]

_NEXT_STEP = "nothing was loaded; get the file again, or ask its author for a complete one"


def assemble(parts: Parts, *, source: str) -> dict[str, Weights]:
    """Return the weights of every module. Raises CorruptFile naming the first tensor or module that is wrong."""
    if parts.unplaced:
        raise CorruptFile(f"{source}: no place for tensor {parts.unplaced[0]!r}", hint=_NEXT_STEP)
    for module, pieces in parts.pieces.items():
        if what := problem(pieces):
            raise CorruptFile(f"{source}: {module} {what}", hint=_NEXT_STEP)
    for token, vector in parts.embeddings.items():
        if not torch.isfinite(vector).all():
            raise CorruptFile(f"{source}: embedding {token} has NaN or infinite values", hint=_NEXT_STEP)
    return {module: weights_of(pieces) for module, pieces in parts.pieces.items()}


def problem(pieces: Pieces) -> str:
    """Return what is wrong with one module, or nothing."""
    for role in ("down", "up"):
        if role not in pieces:
            return f"has no {role} tensor"
    down, up, alpha = pieces["down"], pieces["up"], pieces.get("alpha")
    if (
        down.ndim not in (2, 4)
        or up.ndim not in (2, 4)
        or down.shape[0] != up.shape[1]
        or 0 in (*down.shape, *up.shape)
    ):
        return f"has factors that do not multiply: up {tuple(up.shape)}, down {tuple(down.shape)}"
    if up.shape[2:].numel() != 1:
        return f"has an up factor with a kernel: {tuple(up.shape)}"
    if alpha is not None and alpha.numel() != 1:
        return f"has an alpha of shape {tuple(alpha.shape)}, not one number"
    if not all(_finite(each) for each in pieces.values()):
        return "has NaN or infinite values"
    return ""


def _finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() is False or bool(torch.isfinite(tensor.float()).all())


def weights_of(pieces: Pieces) -> Weights:
    """Return the weights of one module whose pieces have no problem; without an alpha it is the rank."""
    down, up, alpha = pieces["down"], pieces["up"], pieces.get("alpha")
    return Weights(down=down, up=up, alpha=float(down.shape[0] if alpha is None else alpha))
