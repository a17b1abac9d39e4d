"""Single files of a few small tensors: enough for what is told by a header."""

import torch
from safetensors.torch import save_file

UNET = "model.diffusion_model"
SD1 = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": (4,)}
SD2 = {"cond_stage_model.model.ln_final.weight": (4,)}
SDXL = {
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (4,),
    "conditioner.embedders.1.model.ln_final.weight": (4,),
}
REFINER = {"conditioner.embedders.0.model.ln_final.weight": (4,)}


def unet(width, *, taken=4, given=4):
    """Shapes of a denoiser that takes texts of a width and so many channels."""
    return {
        f"{UNET}.input_blocks.0.0.weight": (8, taken, 3, 3),
        f"{UNET}.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (8, width),
        f"{UNET}.out.2.weight": (given, 8, 3, 3),
    }


def write(path, *shapes, metadata=None):
    """Write zeros of these shapes."""
    tensors = {key: torch.zeros(shape) for each in shapes for key, shape in each.items()}
    save_file(tensors, path, metadata)
    return path
