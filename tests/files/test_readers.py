"""What a file that was just written cannot be used with is said."""

from dataclasses import replace

import pytest

from lora_diffusion.files.adapter import write_adapter
from tests.files.samples import sample_adapter


@pytest.mark.parametrize(
    ("dialect", "ends", "says"),
    [
        ("kohya", ("q_proj", "v_proj"), "use --dialect diffusers"),
        ("kohya", ("q_proj", "out_proj"), ""),
        ("kohya", ("to_q",), ""),
        ("kohya", ("mlp.fc1",), ""),
        ("diffusers", ("q_proj", "v_proj"), ""),
        ("diffusers", ("mlp.fc1",), "use --dialect kohya"),
        ("diffusers", ("to_q",), ""),
    ],
)
def test_a_text_encoder_that_diffusers_cannot_read_is_said(dialect, ends, says, tmp_path, caplog):
    full = sample_adapter()
    adapter = replace(full, modules={name: each for name, each in full.modules.items() if name.endswith(ends)})
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    assert says in caplog.text
    assert ("use --dialect" in caplog.text) == bool(says)
