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
    """The trained tensors of one target module; n is in * kh * kw, r the rank.

    | method | up | down | delta weight |
    |---|---|---|---|
    | lora | [out, r] or [out, r, 1, 1] | [r, in] or [r, in, kh, kw] | scale * up @ down |
    | loha | [out, r] | [r, n] | scale * (up @ down) * (up2 @ down2) |
    | lokr | w1 [a, b] | w2 [c, d] or [c, d, kh, kw] | scale * kron(w1, w2) |
    | full | the delta itself, of any dimensions | empty [0] | up |

    `extra` holds what else a method has, by role:
    - mid [r, r, kh, kw] stands between up and down (Tucker): sum over i, j of up[o, i] mid[i, j] down[j, c]. Then down
      has no kernel: [r, in, 1, 1] for lora, [r, in] for loha, [r, d] for lokr.
    - up2, down2 and mid2 of loha are of the same shapes as up, down and mid.
    - w1_b [r, b] of lokr: then w1 = up @ w1_b with up [a, r]. w2_a [c, r]: then w2 = w2_a @ down with down
      [r, d * kh * kw].
    - bias [out], with any method, is what is added to the bias of the base; no alpha scales it.
    - dora_scale, with any method but full, holds the norms of the result, [out, 1, ...] by row, [1, in, ...] by column:
      base W becomes dora_scale * (W + delta) / norm(W + delta).
    - kernel, (kh, kw), where no tensor tells it.

    `adapters.dense.delta` computes the delta of every method; only the plain ones (`is_plain`) are just a product of
    `up` and `down`. Sources: LoRA, Hu et al. 2021; LoHa, Hyeon-Woo et al. 2021 (FedPara); LoKr and Tucker, Yeh et al.
    2023 (LyCORIS); DoRA, Liu et al. 2024.
    """

    down: "Tensor"
    up: "Tensor"
    alpha: float
    method: str = "lora"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """r; for a Kronecker product of two whole matrices 1, for a whole delta its smaller side."""
        if self.method == "full":
            return min(self.up.shape[0], self.up[0].numel())
        if self.method == "lokr" and "w1_b" in self.extra and "w2_a" not in self.extra:
            return int(self.up.shape[1])
        if self.method == "lokr" and "w2_a" not in self.extra:
            return 1
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """alpha / rank, fixed by training."""
        return self.alpha / self.rank

    @property
    def is_plain(self) -> bool:
        """Say whether the change is scale * up @ down and nothing else."""
        return self.method == "lora" and not (self.extra.keys() & {"mid", "dora_scale", "bias"})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the delta: [out, in] or [out, in, kh, kw]."""
        if self.method == "full":
            return tuple(self.up.shape)
        out, inner = int(self.up.shape[0]), int(self.down.shape[1])
        kernel: tuple[int, ...] = tuple(self.down.shape[2:])
        if "mid" in self.extra:
            kernel = tuple(self.extra["mid"].shape[2:])
        elif "kernel" in self.extra:
            kernel = tuple(self.extra["kernel"])
            inner //= kernel[0] * kernel[1]
        if self.method == "lokr":
            first, second = self.extra.get("w1_b", self.up), self.extra.get("w2_a", self.down)
            out, inner = out * int(second.shape[0]), inner * int(first.shape[1])
        return (out, inner, *kernel)

    def tensors(self) -> dict[str, "Tensor"]:
        """Return every tensor by its role: up, down and those of `extra`."""
        return {"up": self.up, "down": self.down} | {
            role: each for role, each in self.extra.items() if role != "kernel"
        }
