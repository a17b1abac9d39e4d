"""What a file that was just written cannot be used with is said."""

from dataclasses import replace

import pytest

from lora_diffusion.files.adapter import write_adapter
from tests.files.samples import sample_adapter


@pytest.mark.parametrize(
    ("dialect", "ends", "says"),
    [
        ("kohya", ("q_proj", "v_proj"), True),
        ("kohya", ("q_proj", "out_proj"), False),
        ("kohya", ("to_q",), False),
        ("kohya", ("mlp.fc1",), False),
        ("diffusers", ("q_proj", "v_proj"), False),
    ],
)
def test_a_text_encoder_that_diffusers_cannot_read_from_kohya_is_said(dialect, ends, says, tmp_path, caplog):
    full = sample_adapter()
    adapter = replace(full, modules={name: each for name, each in full.modules.items() if name.endswith(ends)})
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    assert ("use --dialect diffusers" in caplog.text) == says
