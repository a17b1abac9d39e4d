"""What an adapter does, in figures: drawn and denoised on fixed prompts, seeds and noise, with no pretrained judge."""
