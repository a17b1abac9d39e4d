"""A base that is damaged is refused, whichever of its bytes: those that are folded and those that only pass by."""

import hashlib

import pytest

from lora_diffusion.errors import CorruptFile
from lora_diffusion.files import stream
from lora_diffusion.files.hashes import HASH_KEY, OLD_HASH_KEY
from lora_diffusion.files.safe import open_safe
from lora_diffusion.files.writing import plan_of, write_safe
from lora_diffusion.merging import merge
from tests.files.samples import pipeline_folder, sample_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

_KEPT = "first_stage_model.decoder.conv_in.weight"


@pytest.fixture(scope="module")
def adapter():
    return sample_adapter(text=False, kernels=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return merge(pipeline_folder(), [], tmp_path_factory.mktemp("base") / "base.safetensors").path


def _folded(adapter, file):
    """Return the name in the file of a tensor that the adapter changes."""
    from lora_diffusion.files.checkpoint import open_checkpoint

    stored = open_checkpoint(file.path).tensors
    return next(stored[f"{name}.weight"].key for name in adapter.modules if f"{name}.weight" in stored)


def _base(whole, key, path):
    """Write the base with one kind of hash."""
    tensors, metadata = dict(open_safe(whole).tensors()), dict(open_safe(whole).metadata)
    write_safe(path, plan_of(tensors), tensors.__getitem__, metadata, hashes=(key,))
    return open_safe(path)


def _turn(file, name):
    data = bytearray(file.path.read_bytes())
    data[file.entries[name].start + 1] ^= 1
    file.path.write_bytes(data)


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("key", [HASH_KEY, OLD_HASH_KEY])
@pytest.mark.parametrize("folded", [True, False], ids=["folded", "passing by"])
def test_one_bit_of_the_base_that_turned_is_found(folded, key, precision, whole, adapter, tmp_path):
    file, out = _base(whole, key, tmp_path / "base.safetensors"), tmp_path / "out.safetensors"
    merge(file.path, [(adapter, 0.5)], out, precision=precision)
    _turn(file, _folded(adapter, file) if folded else _KEPT)
    with pytest.raises(CorruptFile, match=r"base\.safetensors: the tensors are not those that were written"):
        merge(file.path, [(adapter, 0.5)], out, precision=precision, overwrite=True)
    with pytest.raises(CorruptFile):
        merge(file.path, [(adapter, 0.5)], tmp_path / "folder", precision=precision)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_large_file_goes_around_the_cache_and_is_the_same(precision, whole, adapter, monkeypatch, tmp_path):
    through = merge(whole, [(adapter, 0.5)], tmp_path / "through.safetensors", precision=precision)
    monkeypatch.setattr(stream, "_LEAST", 0)
    monkeypatch.setattr(stream, "_FAST", 0)
    around = merge(whole, [(adapter, 0.5)], tmp_path / "around.safetensors", precision=precision)
    data = around.path.read_bytes()
    assert data == through.path.read_bytes()
    assert around.sha256 == through.sha256 == hashlib.sha256(data).hexdigest()


def test_a_checkpoint_of_ours_has_no_hash_in_it_and_is_merged_unverified(whole, adapter, tmp_path):
    assert not open_safe(whole).hash_keys
    assert merge(whole, [(adapter, 0.5)], tmp_path / "out.safetensors").report.total < 1
