"""Shared, built once: a toy base model and a folder of pictures. Tests do not write into them."""

from pathlib import Path

import pytest
import torch

from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep results independent of the number of cores and of how many workers share them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy Stable Diffusion 1 with epsilon prediction as a diffusers folder."""
    return tiny.sd1(tmp_path_factory.mktemp("base") / "sd1")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six captioned pictures in two sizes."""
    return tiny.pictures(tmp_path_factory.mktemp("pictures"))
