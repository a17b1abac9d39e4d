"""What is read again after writing: damaged bytes, other tensors and other numbers are found and named."""

import hashlib

import pytest
import torch

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.hashes import HASH_KEY
from lora_diffusion.files.readback import digest, read_back, require_numbers
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
    return write_safe(path, plan_of(tensors), tensors.__getitem__, file.metadata, hashes=(HASH_KEY,)).digests


def test_the_hash_of_the_file_comes_with_the_check(merged):
    assert read_back(merged, _digests(merged)) == hashlib.sha256(merged.read_bytes()).hexdigest()


def _digests(path):
    file = open_safe(path)
    return file.digests(file.entries)


def _turned(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [-1, -50_000])
@pytest.mark.parametrize("beside", [False, True], ids=["by digests", "beside what it was made of"])
def test_one_bit_that_turned_is_found(beside, place, merged, tmp_path):
    written, source = _digests(merged), tmp_path / "source.safetensors"
    source.write_bytes(merged.read_bytes())
    sources = {name: (open_safe(source), name) for name in written} if beside else {}
    assert read_back(merged, written, sources) == hashlib.sha256(merged.read_bytes()).hexdigest()
    _turned(merged, place)
    with pytest.raises(CorruptFile, match="not those that were written"):
        read_back(merged, written, sources)


def test_a_source_that_changed_meanwhile_is_no_fault_of_the_result(merged, tmp_path):
    written, source = _digests(merged), tmp_path / "source.safetensors"
    source.write_bytes(merged.read_bytes())
    sources = {name: (open_safe(source), name) for name in written}
    _turned(source, -1)
    assert read_back(merged, written, sources) == hashlib.sha256(merged.read_bytes()).hexdigest()


def test_a_hash_in_the_header_that_is_not_that_of_the_tensors_is_found(merged):
    written, data = _digests(merged), merged.read_bytes()
    said = open_safe(merged).metadata[HASH_KEY].encode()
    merged.write_bytes(data.replace(said, said[::-1]))
    with pytest.raises(CorruptFile, match="not those that were written"):
        read_back(merged, written)


def test_a_tensor_too_many_or_too_few_is_found(merged):
    written = _digests(merged)
    less = {name: each for name, each in written.items() if name != f"{_PLACE}.to_q.weight"}
    for wrong in (written | {"more": bytes(32)}, less):
        with pytest.raises(VerificationFailed, match="other tensors"):
            read_back(merged, wrong)


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
    read_back(path, _written(file, swapped, path))
    with pytest.raises(VerificationFailed, match=_QUERY):
        require_numbers(path, before, {_QUERY: digest(query)})


@pytest.mark.parametrize("other", [None, torch.zeros(3, 3, dtype=torch.bfloat16)], ids=["missing", "of another shape"])
def test_a_tensor_that_is_no_longer_there_is_named(other, merged, tmp_path):
    before, file = open_checkpoint(merged), open_safe(merged)
    path = tmp_path / "other.safetensors"
    _written(file, {f"{_PLACE}.to_q.weight": other}, path)
    with pytest.raises(VerificationFailed, match=rf"{_QUERY} reads back as another tensor"):
        require_numbers(path, before, {})
