"""Steps that several dialects share."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.dialects import Parts

__all__ = ["ADAPTER", "WRAPPERS", "Collector", "json_object", "number", "one_alpha", "rank_of", "same", "unwrapped"]

_LISTED = "alpha stored as a list of one number: read as the number"
_TWICE = "the same tensor under two names: read once"
_BUNDLED = "embeddings bundled with the modules (bundle_emb.): kept beside them"
_BUNDLE = re.compile(r"bundle_emb\.(?P<token>.+?)(?P<rest>\.string_to_param\.\*|\.[^.]+)")
# What programs write although it changes nothing: role -> the value that changes nothing, and how it is called.
_NEUTRAL = {
    "lora_bias": (0.0, "biases of zeros inside a LoRA: left out"),
    "scalar": (1.0, "a scalar of 1 beside the factors: left out"),
}
_ZERO_BIAS = "changes of a bias (diff_b) of zeros: left out"
_DOUBLED = "text_model written twice: read once"
_WRAPPED = "names of what a model was wrapped in for training (module., _orig_mod., base_model.model.): left out"
_NAMED = "the name of the adapter inside the names of its tensors, as a PEFT model has them: left out"
# DistributedDataParallel, torch.compile and PEFT, as a model that was saved without being unwrapped has them.
WRAPPERS = r"(?:module\.|_orig_mod\.|base_model\.model\.)"
ADAPTER = r"(?:\.(?P<adapter>default|(?!weight\b|bias\b)[A-Za-z_]\w*(?=\.weight|\.bias)))?"
_ROUNDED = "alpha stored in half precision, which rounds fractions (1.1 to 1.1016): read as it stands"


@dataclass(kw_only=True)
class Collector:
    """Sorts the tensors of a file into pieces while a dialect walks over them."""

    pieces: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)
    adapter: str | None = None

    def place(self, key: str, module: str | None, role: str, tensor: Tensor) -> None:
        """Put a tensor at its module; a key without a module, or a place taken by another, stays unplaced."""
        taken = self.pieces.get(module or "", {}).get(role)
        if taken is not None and same(taken, tensor):
            self.mended[_TWICE] += 1
        elif module is None or taken is not None:
            self.unplaced.append(key)
        elif role in _NEUTRAL and bool((tensor.float() == _NEUTRAL[role][0]).all()):
            self.mended[_NEUTRAL[role][1]] += 1
        else:
            self.pieces.setdefault(module, {})[role] = tensor

    def one_adapter(self, name: str | None) -> bool:
        """Take note of the adapter that a tensor is named for; False for another than the first of the file."""
        if name is None:
            return True
        self.mended[_NAMED] += 1
        self.adapter = self.adapter or name
        return self.adapter == name

    def path(self, path: str) -> str:
        """Return a dotted path without wrappers, and with `text_model` once."""
        plain = unwrapped(path)
        self.mended[_WRAPPED] += plain != path
        once = plain.replace("text_model.text_model.", "text_model.")
        self.mended[_DOUBLED] += once != plain
        return once

    def bundled(self, key: str, tensor: Tensor) -> bool:
        """Take a textual inversion as OneTrainer keeps it in the file of an adapter; False for any other tensor."""
        match = _BUNDLE.fullmatch(key)
        if match is not None:
            encoder = "" if "string_to_param" in match["rest"] else match["rest"]
            self.embeddings[f"{match['token']}{encoder}"] = tensor
            self.mended[_BUNDLED] += 1
        return match is not None

    def _without_empty_biases(self) -> dict[str, dict[str, Tensor]]:
        """Programs that extract adapters write the change of every bias, also where there is none."""
        result = {}
        for module, pieces in self.pieces.items():
            empty = "diff" not in pieces and "diff_b" in pieces and not pieces["diff_b"].float().any()
            self.mended[_ZERO_BIAS] += empty
            if kept := {role: each for role, each in pieces.items() if not (empty and role == "diff_b")}:
                result[module] = kept
        return result

    def parts(self) -> Parts:
        whole = self._without_empty_biases()
        alphas = [pieces["alpha"] for pieces in whole.values() if "alpha" in pieces]
        self.mended[_LISTED] += sum(each.ndim > 0 and each.numel() == 1 for each in alphas)
        self.mended[_ROUNDED] += sum(_is_rounded(each) for each in alphas)
        return Parts(
            pieces=dict(sorted(whole.items())),
            unplaced=tuple(self.unplaced),
            embeddings=self.embeddings,
            repairs=tuple(f"{what} ({count} tensors)" for what, count in self.mended.items() if count),
        )


def unwrapped(path: str) -> str:
    """Return a dotted path without the wrappers at its beginning."""
    return re.sub(f"^{WRAPPERS}+", "", path)


def same(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors are the same in dtype, shape and values; 8-bit floats do not compare as they are."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.double(), other.double())


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
