"""What to add and where, and the tensors that come out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AdapterSpec", "Weights"]


class AdapterSpec(BaseModel):
    """One method at a set of targets.

    `targets` holds names of a family's target sets ("attention", "text") or patterns over canonical names with `*`
    ("denoiser.up_blocks.*.attn2.to_v"). `ranks` maps such names or patterns to a rank of their own; the last match
    wins. `alpha` None means alpha = rank, so that the scale alpha / rank is 1 (Hu et al. 2021, section 4.1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: float | None = Field(default=None, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("attention",)
    ranks: Mapping[str, PositiveInt] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The trained tensors of one target module.

    For method "lora": down [rank, in] or [rank, in, kh, kw], up [out, rank] or [out, rank, 1, 1];
    delta weight = alpha / rank * up @ down. `extra` keeps what a method adds (none for lora).
    """

    down: "Tensor"
    up: "Tensor"
    alpha: float
    method: str = "lora"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """alpha / rank, fixed by training."""
        return self.alpha / self.rank
