"""The base model and the styles that come with the package, and the prompts to try them with."""

from lora_diffusion.demo.icons import held_out, phrase
from lora_diffusion.embedded import BASE, STYLES, style_names

__all__ = ["BASE", "STYLES", "held_out_prompts", "style_names"]


def held_out_prompts(n: int) -> list[str]:
    """Return prompts for the first n things that the embedded base can draw and no demo style shows."""
    return [phrase(name) for name in held_out(n)]
