"""Adapters that are healthy and of no use here: other families of models, other methods. They are named, not blamed."""

import re
from collections.abc import Iterable

__all__ = ["foreign", "refusal"]

# Names by which a file tells, the most telling first: kohya and ComfyUI, diffusers, LyCORIS, PEFT.
_KINDS = (
    ("a Stable Diffusion 3 adapter", r"joint_blocks[._]\d"),
    ("a FLUX adapter", r"(?:double_blocks|single_blocks|single_transformer_blocks)[._]\d"),
    (
        "an adapter of a diffusion transformer",
        r"(?:^|\.)(?:transformer|diffusion_model)\.(?:(?:transformer_)?blocks|layers)\.\d"
        r"|^(?:denoiser|unet|base_model\.model)\.transformer_blocks\.\d|^lora_te3_|^lora_unet_(?:(?:transformer_)?blocks|layers)_\d",
    ),
    ("a motion adapter", r"[._]motion_modules[._]"),
    ("a BOFT adapter", r"\.boft_[A-Za-z]"),
    ("an OFT adapter", r"\.oft_(?:blocks|diag|r|R)\b"),
    ("a GLoRA adapter", r"\.[ab][12]\.weight$|\.glora_"),
    ("an IA3 adapter", r"\.on_input$|\.ia3_l\b"),
)
_RULES = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


def foreign(keys: Iterable[str]) -> str:
    """Return what an adapter with such tensors is, "a FLUX adapter", or nothing where the names do not tell."""
    names = tuple(keys)
    return next((kind for kind, rule in _RULES if any(rule.search(name) for name in names)), "")


def refusal(kind: str) -> tuple[str, str]:
    """Return the sentence that refuses a foreign adapter, and the next step."""
    families = "adapters of Stable Diffusion 1, 2 and XL"
    return f"this is {kind}, which is not supported", f"{families} are read, as LoRA, DoRA, LoHa, LoKr or whole changes"
