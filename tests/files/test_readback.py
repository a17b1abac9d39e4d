"""What is read again after writing: damaged bytes, other tensors and other numbers are found and named."""

import hashlib

import pytest
import torch

from lora_diffusion.errors import CorruptFile, VerificationFailed
from lora_diffusion.files.checkpoint import open_checkpoint
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


@pytest.fixture
def copied(merged, tmp_path):
    """A file whose tensors all lie in another one, and what is known of it."""
    file, path = open_safe(merged), tmp_path / "copied.safetensors"
    sources = {name: (file, name) for name in file.entries}
    return path, _written(file, {}, path, passing=sources), sources


def _written(file, changes, path, passing=()):
    """Write a whole and healthy file with some other tensors."""
    tensors = {**dict(file.tensors()), **changes}
    tensors = {name: each for name, each in tensors.items() if each is not None}
    return write_safe(path, plan_of(tensors), tensors.__getitem__, file.metadata, hashes=(), passing=passing)


@pytest.mark.parametrize("passing", [False, True], ids=["digested", "passing"])
def test_the_hash_of_a_file_is_made_while_it_is_written(passing, merged, tmp_path):
    path, names = tmp_path / "a.safetensors", open_safe(merged).entries if passing else ()
    written = _written(open_safe(merged), {}, path, passing=names)
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(written.digests) == set(open_safe(path).entries) - set(names)


def _turned(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("place", [-1, -50_000])
@pytest.mark.parametrize("beside", [False, True], ids=["by digests", "beside what it was made of"])
def test_one_bit_that_turned_is_found(beside, place, merged, tmp_path):
    path, file = tmp_path / "a.safetensors", open_safe(merged)
    sources = {name: (file, name) for name in file.entries} if beside else {}
    written = _written(file, {}, path, passing=sources)
    read_back(path, written, sources)
    _turned(path, place)
    with pytest.raises(CorruptFile, match="not those that were written"):
        read_back(path, written, sources)


def test_a_letter_of_the_metadata_that_turned_is_found(copied):
    path, written, sources = copied
    path.write_bytes(path.read_bytes().replace(b"modelspec.title", b"modelspec.tidle"))
    with pytest.raises(CorruptFile, match="not those that were written"):
        read_back(path, written, sources)


def test_a_file_that_ends_too_early_is_found(copied):
    path, written, sources = copied
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile):
        read_back(path, written, sources)


def test_a_base_that_changed_meanwhile_is_found(copied, merged):
    path, written, sources = copied
    _turned(merged, -1)
    with pytest.raises(CorruptFile) as raised:
        read_back(path, written, sources)
    assert "changed the base" in raised.value.hint


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
    read_back(path, _written(file, swapped, path), {})
    with pytest.raises(VerificationFailed, match=_QUERY):
        require_numbers(path, before, {_QUERY: digest(query)})


@pytest.mark.parametrize("other", [None, torch.zeros(3, 3, dtype=torch.bfloat16)], ids=["missing", "of another shape"])
def test_a_tensor_that_is_no_longer_there_is_named(other, merged, tmp_path):
    before, file = open_checkpoint(merged), open_safe(merged)
    path = tmp_path / "other.safetensors"
    _written(file, {f"{_PLACE}.to_q.weight": other}, path)
    with pytest.raises(VerificationFailed, match=rf"{_QUERY} reads back as another tensor"):
        require_numbers(path, before, {})
