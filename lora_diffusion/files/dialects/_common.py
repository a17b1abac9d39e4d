"""Steps that several dialects share."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.dialects import Parts

__all__ = ["Collector", "json_object", "number", "one_alpha", "rank_of"]

_LISTED = "alpha stored as a list of one number: read as the number"
_ROUNDED = "alpha stored in half precision, which rounds fractions (1.1 to 1.1016): read as it stands"


@dataclass(kw_only=True)
class Collector:
    """Sorts the tensors of a file into pieces while a dialect walks over them."""

    pieces: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)

    def place(self, key: str, module: str | None, role: str, tensor: Tensor) -> None:
        """Put a tensor at its module; a key without a module, or a place taken twice, stays unplaced."""
        if module is None or role in self.pieces.get(module, {}):
            self.unplaced.append(key)
        else:
            self.pieces.setdefault(module, {})[role] = tensor

    def parts(self) -> Parts:
        alphas = [pieces["alpha"] for pieces in self.pieces.values() if "alpha" in pieces]
        self.mended[_LISTED] += sum(each.ndim > 0 and each.numel() == 1 for each in alphas)
        self.mended[_ROUNDED] += sum(_is_rounded(each) for each in alphas)
        return Parts(
            pieces=dict(sorted(self.pieces.items())),
            unplaced=tuple(self.unplaced),
            embeddings=self.embeddings,
            repairs=tuple(f"{what} ({count} tensors)" for what, count in self.mended.items() if count),
        )


def _is_rounded(alpha: Tensor) -> bool:
    half = alpha.dtype in (torch.float16, torch.bfloat16) and alpha.numel() == 1
    return half and not float(alpha).is_integer()


def number(value: float) -> Tensor:
    """Return a 0-D fp32 tensor: a half would keep only 8 or 11 bits of an alpha."""
    return torch.tensor(value, dtype=torch.float32)


def rank_of(down: Tensor) -> int:
    """Return the rank that a down factor says, 0 where it has no dimension at all."""
    return int(down.shape[0]) if down.ndim else 0


def json_object(text: str | None) -> dict[str, Any]:
    """Parse a metadata value; an absent one is empty. Raises CorruptFile for another than a JSON object: the strength
    of the adapter stands there, and a guess would be wrong without a word."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CorruptFile(f"the adapter configuration in the metadata is no JSON object: {str(text)[:40]!r}")
    return value


def one_alpha(modules: Mapping[str, Weights]) -> dict[str, Weights]:
    """Give all LoRA modules the same alpha, in fp32, where theirs differ; each delta stays what it was.

    diffusers applies only the most common alpha of a kohya file, silently (measured on 0.42.1), so the difference goes
    into `up`. The alpha that most modules have is kept: the fewest tensors change.
    """
    counts = Counter(weights.alpha for weights in modules.values() if weights.alpha and weights.method == "lora")
    if not counts:
        return dict(modules)
    common = max(counts, key=lambda alpha: (counts[alpha], -alpha))
    return {name: _with_alpha(weights, common) for name, weights in modules.items()}


def _with_alpha(weights: Weights, alpha: float) -> Weights:
    if weights.alpha == alpha or weights.method != "lora":
        return weights
    return replace(weights, up=weights.up.float() * (weights.alpha / alpha), alpha=alpha)
