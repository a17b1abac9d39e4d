"""Every path that a write creates is known before it."""

from dataclasses import replace

import pytest
import torch

from lora_diffusion.files.adapter import write_adapter, written_paths
from tests.files.samples import sample_adapter


@pytest.mark.parametrize("target", ["a.safetensors", "folder"])
@pytest.mark.parametrize("tokens", [(), ("<s1>",)], ids=["plain", "with-embeddings"])
def test_the_paths_that_a_write_creates_are_those_it_named(target, tokens, tmp_path):
    adapter = replace(sample_adapter(text=False), embeddings={token: torch.ones(8) for token in tokens})
    named = written_paths(adapter, tmp_path / target)
    write_adapter(adapter, tmp_path / target, dialect="peft")
    assert sorted(tmp_path.iterdir()) == sorted(named)
    assert len(named) == 1 + len(tokens)
