"""Exports: converted, stripped of what is private, compared, never over another file."""

import hashlib
from dataclasses import replace

import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.exporting import blend_to_file, export
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.dialects import dialects
from lora_diffusion.generation.blend import blend_error
from tests.files.samples import FIXTURES, sample_adapter

_PRIVATE = {"ss_dataset_dirs": '{"ann": 1}', "ss_sd_model_name": "/home/ann/base.safetensors"}


@pytest.fixture
def source(tmp_path):
    write_adapter(sample_adapter(), tmp_path / "source.safetensors", metadata=_PRIVATE)
    return tmp_path / "source.safetensors"


@pytest.mark.parametrize("dialect", [name for name, each in dialects().items() if each.writable])
def test_a_source_becomes_any_dialect_with_the_same_deltas(dialect, source, tmp_path):
    done = export(source, tmp_path / "out.safetensors", dialect=dialect)
    again = read_adapter(done.path)
    assert again.dialect == dialect
    assert done.report.total < 1e-3
    assert blend_error(again, [(read_adapter(source), 1.0)]).total == pytest.approx(done.report.total, rel=1e-3)
    assert done.sha256 == hashlib.sha256(done.path.read_bytes()).hexdigest()


def test_an_existing_file_is_replaced_only_when_asked(source, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(source, out)
    assert out.read_text() == "mine"
    export(source, out, overwrite=True)
    assert read_adapter(out).modules


@pytest.mark.parametrize(("privacy", "gone"), [("public", True), ("team", True), ("private", False)])
def test_a_profile_decides_what_metadata_leaves(privacy, gone, source, tmp_path):
    done = export(source, tmp_path / "out.safetensors", privacy=privacy)
    assert (b"ann" not in done.path.read_bytes()[:20_000]) == gone
    assert set(done.dropped) == (set(_PRIVATE) if gone else set())


def test_an_adapter_in_memory_is_a_source_too(tmp_path):
    adapter = sample_adapter(alphas=(4.0,))
    done = export(adapter, tmp_path / "out.safetensors", dtype="fp32")
    assert read_adapter(done.path).fingerprint == adapter.fingerprint


@pytest.mark.parametrize(
    "request_", [{"dialect": "word"}, {"dtype": "fp8"}, {"privacy": "none"}, {"dialect": "cloneofsimo"}]
)
def test_a_request_that_cannot_be_met_writes_nothing(request_, source, tmp_path):
    with pytest.raises(UsageError):
        export(source, tmp_path / "new" / "out.safetensors", **request_)
    assert not (tmp_path / "new").exists()


def test_tiny_factors_survive_fp16(tmp_path):
    adapter = sample_adapter()
    tiny = {name: replace(each, up=each.up * 1e-7) for name, each in adapter.modules.items()}
    done = export(replace(adapter, modules=tiny), tmp_path / "out.safetensors", dtype="fp16")
    assert done.report.total < 1e-3


def test_embeddings_of_an_old_file_are_kept_beside(tmp_path):
    from safetensors import safe_open

    path = FIXTURES / "cloneofsimo_lora_disney.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    export(path, tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.embeddings.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["<s1>", "<s2>"]


def test_a_blend_in_a_file_is_compared_with_the_sum_it_was_meant_to_be(tmp_path):
    parts = [(sample_adapter(), 0.7), (sample_adapter(seed=1, ranks=(8,)), -0.3)]
    done = blend_to_file(parts, tmp_path / "both.safetensors")
    assert done.report.total <= 1e-6
    assert read_adapter(done.path).name == "both"
    with pytest.raises(UsageError, match="exists already"):
        blend_to_file(parts, done.path)
    cut = blend_to_file(parts, tmp_path / "cut.safetensors", method="", rank=2)
    assert 0.05 < cut.report.total < 1
    assert max(read_adapter(cut.path).ranks) == 2


def test_a_public_file_is_refused_a_name_that_gives_someone_away(tmp_path):
    named = replace(sample_adapter(), name="ada.lovelace@example.com")
    with pytest.raises(UsageError, match="public"):
        export(named, tmp_path / "x.safetensors", privacy="public")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_embeddings_of_another_adapter_are_not_replaced_unless_asked(tmp_path):
    import torch

    adapter = replace(sample_adapter(), embeddings={"<s1>": torch.ones(8)})
    other = tmp_path / "out.embeddings.safetensors"
    other.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        export(adapter, tmp_path / "out.safetensors")
    assert other.read_bytes() == b"mine"
    assert not (tmp_path / "out.safetensors").exists()
