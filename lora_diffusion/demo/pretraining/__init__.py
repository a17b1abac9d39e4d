"""How the embedded base model is trained from nothing; `lora_diffusion.demo.pretrain` puts the parts in order."""
