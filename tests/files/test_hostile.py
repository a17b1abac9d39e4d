"""Whatever a file holds: our errors or a whole adapter, in two seconds and in little memory."""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_diffusion.errors import LoraDiffusionError
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.fix import fix_adapter
from lora_diffusion.files.inspect import inspect_adapter
from lora_diffusion.files.roles import LYCORIS
from lora_diffusion.files.writing import plan_of, write_safe
from tests.files.lycoris import CASES, KERNEL, LINEAR, NORM, file_of
from tests.files.samples import sample_adapter, save

COUNT = 2500


@pytest.mark.slow
def test_2500_damaged_files_never_crash_hang_or_fill_the_memory(tmp_path):
    for dialect in ("kohya", "diffusers", "peft"):
        write_adapter(sample_adapter(ranks=(1,)), tmp_path / f"{dialect}.safetensors", dialect=dialect)
    for at, case in enumerate(CASES):
        save(file_of(case)[0], tmp_path / f"{at}.safetensors", {"modelspec.title": case})
    done = subprocess.run(
        [sys.executable, "-m", "tests.files.hostile", str(tmp_path), str(COUNT)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["crashes"] == []
    assert found["read"] + found["refused"] == 2 * COUNT
    assert min(found["read"], found["refused"]) > COUNT / 10, "the corpus is too tame or too wild to say anything"
    assert found["slowest_s"] < 2
    assert found["grown_mb"] < 256
    assert "oneMKL" not in done.stderr


_LEAVES = (
    *(f"lora_{each}.weight" for each in ("down", "up", "mid", "A", "B")),
    "alpha",
    "dora_scale",
    *LYCORIS,
    "oft_blocks",
)
_STEMS = (LINEAR, KERNEL, NORM, "unet.mid_block.attentions.0.proj_in", "base_model.model.conv_in", "unet:0:up", "x")
_KEYS = st.tuples(st.sampled_from(_STEMS), st.sampled_from(_LEAVES)).map(".".join)
_SHAPES = st.lists(st.sampled_from((0, 1, 2, 3, 4, 8)), max_size=5)
_VALUES = st.sampled_from((0.0, 1.0, -3.5, 1e30, float("nan"), float("inf")))
_DTYPES = st.sampled_from((torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn))


@settings(max_examples=300, deadline=2000)
@given(tensors=st.dictionaries(_KEYS, st.tuples(_SHAPES, _VALUES, _DTYPES), max_size=8), metadata=st.text(max_size=20))
def test_any_tensors_under_names_of_any_method_are_read_or_refused(tensors, metadata):
    made = {key: _filled(*each) for key, each in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        header = {"adapter_config": metadata, "lora_adapter_metadata": metadata, "unet": metadata}
        write_safe(path, plan_of(made), made.__getitem__, header if len(metadata) % 2 else {})
        for reader in (read_adapter, _inspected, lambda each: fix_adapter(each, each.with_name("b.safetensors"))):
            with contextlib.suppress(LoraDiffusionError):
                reader(path)


def _filled(shape, value, dtype):
    if dtype in (torch.int64, torch.bool):
        return torch.ones(shape, dtype=dtype)
    return torch.full(shape, value).to(dtype)


def _inspected(path):
    json.dumps(inspect_adapter(path).to_dict(), allow_nan=False)


@settings(max_examples=300, deadline=2000)
@given(content=st.binary(max_size=400), length=st.integers(0, 2**64 - 1), header=st.booleans())
def test_any_bytes_are_refused_or_described_as_damaged(content, length, header):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes((length.to_bytes(8, "little") + b"{" if header else b"") + content)
        with pytest.raises(LoraDiffusionError):
            read_adapter(path)
        with contextlib.suppress(LoraDiffusionError):
            assert [each.severity for each in inspect_adapter(path).findings] == ["blocks"]
