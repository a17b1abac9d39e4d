"""Writing a file again as it should have been. What can be mended is listed in test_malformed."""

import pytest
import torch

from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.fix import fix_adapter
from lora_diffusion.files.inspect import inspect_adapter
from lora_diffusion.files.safe import open_safe
from tests.files.lycoris import CASES, file_of
from tests.files.samples import FIXTURES, sample_adapter, save


def _kohya():
    return dialects()["kohya"].write(sample_adapter(alphas=(4.0,)).modules, family="sd1")[0]


def test_metadata_and_precision_stay_and_stale_hashes_are_computed_anew(tmp_path):
    tensors = {key: each.half() if each.ndim else each for key, each in _kohya().items()}
    save(tensors, tmp_path / "a.safetensors", {"ss_steps": "9", "sshs_model_hash": "0" * 64})
    fixed = fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert fixed.mended == ("sshs_model_hash did not match the tensors: computed anew",)
    again = open_safe(tmp_path / "b.safetensors")
    assert again.metadata["ss_steps"] == "9"
    assert again.wrong_hashes() == []
    assert {each.dtype for each in again.entries.values() if each.shape} == {torch.float16}


def test_alphas_that_differ_are_said_to_be_folded(tmp_path):
    tensors = _kohya()
    tensors[next(key for key in tensors if key.endswith(".alpha"))] = torch.tensor(2.0)
    save(tensors, tmp_path / "a.safetensors")
    fixed = fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert any("one alpha" in line for line in fixed.mended)
    assert read_adapter(tmp_path / "b.safetensors").alphas == (4.0,)
    assert fixed.report.total < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_every_method_is_written_again(case, tmp_path):
    tensors, name, _ = file_of(case)
    save(
        {key.replace("lora_unet_", "lora_unet_unet_"): each for key, each in tensors.items()},
        tmp_path / "a.safetensors",
    )
    fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = inspect_adapter(tmp_path / "b.safetensors")
    assert (list(found.layers), found.repairs, found.anomalies) == ([name], (), ())


@pytest.mark.parametrize("change", ["nan", "missing", "stray"])
def test_what_cannot_be_mended_without_a_guess_is_refused_and_nothing_is_written(change, tmp_path):
    tensors = _kohya()
    first = next(key for key in tensors if "lora_up" in key)
    if change == "nan":
        tensors[first] = tensors[first] * float("nan")
    elif change == "missing":
        del tensors[first]
    else:
        tensors["foo.bar"] = torch.ones(1)
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile):
        fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_that_is_there_is_kept_unless_asked_and_the_source_always(tmp_path):
    save(_kohya(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_text() == "mine"
    fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors", overwrite=True)
    assert read_adapter(tmp_path / "b.safetensors").modules
    with pytest.raises(UsageError, match="the file to mend"):
        fix_adapter(tmp_path / "a.safetensors", tmp_path / "a.safetensors", overwrite=True)


def test_a_dialect_that_is_only_read_is_exported_not_mended(tmp_path):
    save({"unet:0:down": torch.ones(1, 320), "unet:0:up": torch.ones(320, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError) as caught:
        fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert "export" in caught.value.hint


def test_a_folder_of_peft_becomes_a_folder(tmp_path):
    write_adapter(sample_adapter(), tmp_path / "a", dialect="peft", dtype="fp32")
    fixed = fix_adapter(tmp_path / "a", tmp_path / "b")
    assert fixed.mended == ()
    assert read_adapter(tmp_path / "b").fingerprint == read_adapter(tmp_path / "a").fingerprint


def test_a_real_file_that_diffusers_ignores_is_one_that_it_can_read(tmp_path):
    source = FIXTURES / "catundchat_pytorch_lora_weights.safetensors"
    if not source.is_file():
        pytest.skip(f"{source} is absent")
    fixed = fix_adapter(source, tmp_path / "b.safetensors")
    assert "no unet. prefix" in fixed.mended[0]
    assert fixed.report.total == 0.0
    keys = open_safe(tmp_path / "b.safetensors").entries
    assert len(keys) == 256
    assert all(key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys)
    assert read_adapter(tmp_path / "b.safetensors").fingerprint == read_adapter(source).fingerprint
