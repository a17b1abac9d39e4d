"""The toy base model loaded once, for tests that look at what training is given without training."""

import pytest
import torch

from lora_diffusion.families import detect


@pytest.fixture(scope="session")
def loaded(base):
    """Family and components of the toy base model. Tests that inject adapters take them out again."""
    family = detect(base)
    return family, family.load(base, dtype=torch.float32, device=torch.device("cpu"))
