"""Health of adapter files: described, never a crash."""

import json
from dataclasses import replace

import pytest
import torch

from lora_diffusion.errors import UnknownDialect
from lora_diffusion.files.adapter import write_adapter
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.inspect import inspect_adapter
from tests.files.samples import FIXTURES, sample_adapter, save

_KEY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
_NAME = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


def _pair(rank=4, inside=16, outside=16, alpha=4.0):
    return {
        f"{_KEY}.lora_down.weight": torch.ones(rank, inside),
        f"{_KEY}.lora_up.weight": torch.ones(outside, rank),
        f"{_KEY}.alpha": torch.tensor(alpha),
    }


def _inspected(tensors, path, metadata=None):
    save(tensors, path / "a.safetensors", metadata)
    found = inspect_adapter(path / "a.safetensors")
    json.dumps(found.to_dict(), allow_nan=False)
    return found


@pytest.mark.parametrize("dialect", [name for name, each in dialects().items() if each.writable])
def test_our_files_are_healthy_and_verified(dialect, tmp_path):
    adapter = sample_adapter(alphas=(4.0,))
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp16")
    found = inspect_adapter(tmp_path / "a.safetensors").to_dict()
    assert (found["dialect"], found["family"], found["anomalies"], found["verified"]) == (dialect, "sd1", [], True)
    assert found["modules"] == adapter.components
    assert (found["ranks"], found["alphas"]) == ([2, 3, 4], [4.0])
    assert found["targets"]["attn1.to_q"] == found["targets"]["attn2.to_k"] > 0
    assert sum(found["targets"].values()) == len(adapter.modules)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({f"{_KEY}.lora_up.weight": torch.zeros(16, 4)}, "factor of zeros"),
        ({f"{_KEY}.lora_up.weight": torch.full((16, 4), float("nan"))}, "NaN"),
        ({f"{_KEY}.lora_up.weight": torch.full((16, 4), 1e5)}, "overflow in fp16"),
        ({f"{_KEY}.lora_up.weight": torch.ones(16, 3)}, "do not multiply"),
        ({f"{_KEY}.lora_up.weight": None}, "has no up tensor"),
        ({f"{_KEY}.alpha": torch.tensor(float("nan"))}, "NaN"),
        ({f"{_KEY}.alpha": torch.tensor(1000.0)}, "scale of 250"),
        ({f"{_KEY}.alpha": torch.tensor(0.0)}, "alpha 0"),
        ({f"{_KEY}.alpha": torch.ones(3)}, "not one number"),
        ({"lora_unet_nonsense.alpha": torch.tensor(1.0)}, "no place for tensor lora_unet_nonsense.alpha"),
    ],
)
def test_what_is_wrong_is_listed(change, says, tmp_path):
    tensors = {key: each for key, each in {**_pair(), **change}.items() if each is not None}
    assert any(says in line for line in _inspected(tensors, tmp_path).anomalies)


@pytest.mark.parametrize(
    ("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (1280, "sdxl"), (192, "sd1")]
)
def test_the_family_follows_the_width_of_the_text(width, family, tmp_path):
    found = _inspected(_pair(inside=width), tmp_path)
    assert found.family == family
    assert str(width) in found.evidence or "width" in found.evidence


def test_metadata_that_contradicts_the_width_is_an_anomaly(tmp_path):
    found = _inspected(_pair(inside=2048), tmp_path, {"ss_base_model_version": "sd_v1"})
    assert any("2048" in line for line in found.anomalies)


@pytest.mark.parametrize("key", ["sshs_model_hash", "lora_diffusion.sha256"])
def test_a_hash_that_does_not_match_is_an_anomaly(key, tmp_path):
    found = _inspected(_pair(), tmp_path, {key: "0" * 64})
    assert any(key in line for line in found.anomalies)
    assert not found.verified


def test_junk_is_no_adapter(tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"\x80\x04junk" * 50)
    with pytest.raises(UnknownDialect):
        inspect_adapter(tmp_path / "junk.safetensors")


def test_zero_modules_are_counted_once(tmp_path):
    adapter = sample_adapter()
    silent = {name: replace(each, up=torch.zeros_like(each.up)) for name, each in adapter.modules.items()}
    write_adapter(replace(adapter, modules=silent), tmp_path / "a.safetensors")
    assert len(inspect_adapter(tmp_path / "a.safetensors").anomalies) == 1


def test_real_files_are_healthy():
    if not FIXTURES.is_dir():
        pytest.skip(f"{FIXTURES} is absent")
    for path in sorted(FIXTURES.glob("*.safetensors")):
        found = inspect_adapter(path)
        assert (found.family, found.anomalies) == ("sd1", ()), path.name
