"""From the tensors of any method to a whole delta, and from there to a plain LoRA."""

from lora_diffusion.adapters.dense import bias_delta, delta, direction

__all__ = ["bias_delta", "delta", "direction"]
