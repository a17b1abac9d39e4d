"""The parts of the embedded base model, in the very classes that Stable Diffusion 1 uses, only small."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

__all__ = ["LATENT_CHANNELS", "TOKENS", "new_scheduler", "new_text_encoder", "new_unet", "new_vae"]

LATENT_CHANNELS = 8  # twice Stable Diffusion's: at 128 pixels an icon has only 16 x 16 latents
TOKENS = 32  # the longest caption of the scenes takes 22
TEXT_WIDTH = 192


def new_vae() -> "AutoencoderKL":
    """Return an untrained VAE, 3.0 M parameters, 8 pixels per latent."""
    from diffusers import AutoencoderKL

    widths = (32, 64, 64, 128)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,  # few wide groups: with 8, GroupNorm's backward pass was half of a step on CPU
        sample_size=128,
        scaling_factor=1.0,  # the latents are standardised inside the VAE
    )


def new_unet() -> "UNet2DConditionModel":
    """Return an untrained UNet, 12.75 M parameters, with cross-attention at 16 x 16, 8 x 8 and 4 x 4."""
    from diffusers import UNet2DConditionModel

    widths = (64, 128, 256)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(width // 32 for width in widths),  # diffusers reads it as the number of heads
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: "CLIPTokenizer") -> "CLIPTextModel":
    """Return an untrained text encoder for a tokenizer, 1.6 M parameters."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=TEXT_WIDTH * 4,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=TEXT_WIDTH // 64,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def new_scheduler() -> "DDIMScheduler":
    """Return a v-prediction scheduler with zero terminal SNR (Lin et al. 2023): flat grounds keep their colour."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
