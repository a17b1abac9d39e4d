"""Real adapters of one module, a few kilobytes each, and real pictures."""

from pathlib import Path

import pytest

from lora_diffusion.library import Library
from tests.library import made


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four different adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    return [made.adapter(folder / f"{seed}.safetensors", seed) for seed in range(4)]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three pictures with their settings inside, of seeds 0 to 2."""
    folder = tmp_path_factory.mktemp("drawn")
    return [made.picture(folder / f"{seed}.png", seed) for seed in range(3)]


@pytest.fixture
def library(tmp_path: Path):
    with Library.open(tmp_path / "home") as found:
        yield found
