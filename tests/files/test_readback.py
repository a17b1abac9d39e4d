"""What is read again after writing: other tensors and other numbers are found and named."""

import hashlib
import os

import pytest
import torch

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.readback import digest, require_numbers, verified_beside
from lora_diffusion.files.safe import open_safe
from lora_diffusion.files.writing import plan_of, write_safe
from lora_diffusion.merging import merge
from tests.files.samples import pipeline_folder

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

_PLACE = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1"
_QUERY = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def merged(tmp_path):
    return merge(pipeline_folder(), [], tmp_path / "m.safetensors", precision="bf16").path


def _written(file, changes, path):
    """Write a whole and healthy file with some other tensors."""
    tensors = {**dict(file.tensors()), **changes}
    tensors = {name: each for name, each in tensors.items() if each is not None}
    return write_safe(path, plan_of(tensors), tensors.__getitem__, file.metadata, hashes=())


def test_the_hash_of_a_file_is_made_while_it_is_written(merged, tmp_path):
    written = _written(open_safe(merged), {}, tmp_path / "a.safetensors")
    assert written.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("how", ["written to", "replaced", "cut off"])
def test_a_base_that_changes_while_it_is_read_is_found(how, merged):
    base = open_checkpoint(merged)
    with verified_beside(base):
        pass
    with pytest.raises(CorruptFile, match=f"{merged.name} changed while it was read"), verified_beside(base):
        _change(merged, how)


def _change(path, how):
    data = path.read_bytes()
    if how == "replaced":
        (path.parent / "new").write_bytes(data)
        os.replace(path.parent / "new", path)
    else:
        path.write_bytes(data if how == "written to" else data[:-1])


def test_numbers_are_compared_as_a_program_reads_them(merged):
    before = open_checkpoint(merged)
    require_numbers(merged, before, {_QUERY: digest(before.tensor(_QUERY))})
    near = before.tensor(_QUERY).clone()
    near.view(torch.int16)[0, 0] ^= 1  # the last bit
    with pytest.raises(VerificationFailed, match=rf"{_QUERY} reads back with other numbers"):
        require_numbers(merged, before, {_QUERY: digest(near)})


def test_two_tensors_that_changed_places_are_found_in_a_healthy_file(merged, tmp_path):
    before, file = open_checkpoint(merged), open_safe(merged)
    query, key = (file.tensor(f"{_PLACE}.{each}.weight") for each in ("to_q", "to_k"))
    swapped = {f"{_PLACE}.to_q.weight": key, f"{_PLACE}.to_k.weight": query}
    path = tmp_path / "swapped.safetensors"
    _written(file, swapped, path)
    with pytest.raises(VerificationFailed, match=_QUERY):
        require_numbers(path, before, {_QUERY: digest(query)})


@pytest.mark.parametrize("other", [None, torch.zeros(3, 3, dtype=torch.bfloat16)], ids=["missing", "of another shape"])
def test_a_tensor_that_is_no_longer_there_is_named(other, merged, tmp_path):
    before, file = open_checkpoint(merged), open_safe(merged)
    path = tmp_path / "other.safetensors"
    _written(file, {f"{_PLACE}.to_q.weight": other}, path)
    with pytest.raises(VerificationFailed, match=rf"{_QUERY} reads back as another tensor"):
        require_numbers(path, before, {})
