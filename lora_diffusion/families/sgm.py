"""Denoiser paths as kohya files of Stable Diffusion XL spell them: blocks in the original layout, by underscores.

`down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q` is
`input_blocks_4_1_transformer_blocks_0_attn1_to_q` there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from lora_diffusion.families.layout import unet_blocks
from lora_diffusion.families.names import dotted_or_none, underscored

__all__ = ["SgmNames"]


@dataclass(frozen=True, kw_only=True)
class SgmNames:
    """The spelling for a UNet with so many layers per block; `attention` says which up blocks have transformers."""

    layers: int
    attention: tuple[bool, ...]

    @classmethod
    def of(cls, unet: Mapping[str, Any]) -> Self:
        """Return the spelling for the config.json of a UNet."""
        return cls(
            layers=unet["layers_per_block"], attention=tuple("CrossAttn" in each for each in unet["up_block_types"])
        )

    @cached_property
    def blocks(self) -> Mapping[str, str]:
        """Path in diffusers -> path in the original layout, for each place whose name differs."""
        return unet_blocks(self.layers, self.attention)

    @cached_property
    def _from(self) -> Mapping[str, str]:
        return {underscored(original): ours for ours, original in self.blocks.items()}

    def spell(self, path: str) -> str:
        """Return a dotted path of diffusers with the block of the original layout, underscored.

        A path that the original layout does not name stays as it is.
        """
        start = path
        while start:
            if start in self.blocks:
                return underscored(self.blocks[start] + path[len(start) :])
            start = start.rpartition(".")[0]
        return underscored(path)

    def read(self, spelled: str) -> str | None:
        """Inverse of `spell`; None for what is no path in the original layout."""
        start = spelled
        while start:
            if start in self._from:
                return self._with_rest(self._from[start], spelled[len(start) + 1 :])
            start = start.rpartition("_")[0]
        return None

    def _with_rest(self, block: str, rest: str) -> str | None:
        below = dotted_or_none(rest) if rest else ""
        return None if below is None else f"{block}.{below}".rstrip(".")
