"""Health of adapter files: described, never a crash."""

import json
from dataclasses import replace

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UnknownDialect
from lora_diffusion.files.adapter import write_adapter
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.hashes import HASHES
from lora_diffusion.files.inspect import _blocks, inspect_adapter
from lora_diffusion.files.spectrum import layer_of
from tests.files.lycoris import CASES, file_of
from tests.files.samples import FIXTURES, dense, sample_adapter, save

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


@pytest.mark.parametrize("key", ["sshs_model_hash", "lora_diffusion.sha256", "lora_diffusion.sha256_v2"])
def test_a_hash_that_does_not_match_is_an_anomaly(key, tmp_path):
    found = _inspected(_pair(), tmp_path, {key: "0" * 64})
    assert any(key in line for line in found.anomalies)
    assert not found.verified


def test_junk_is_no_adapter(tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"\x80\x04junk" * 50)
    with pytest.raises(UnknownDialect):
        inspect_adapter(tmp_path / "junk.safetensors")


@pytest.mark.parametrize("keep", [40, -8])
def test_a_truncated_file_is_described_as_damaged(keep, tmp_path):
    save(_pair(), tmp_path / "whole.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:keep])
    found = inspect_adapter(tmp_path / "a.safetensors")
    assert json.loads(json.dumps(found.to_dict()))["modules"] == {}
    assert [each.code for each in found.findings] == ["damaged"]
    assert "truncated" in found.anomalies[0]


@pytest.mark.parametrize(("value", "code"), [(0.0, "norms"), (-1.0, "norms"), (1.0, None)])
def test_norms_that_no_weight_can_have_are_an_anomaly(value, code, tmp_path):
    found = _inspected({**_pair(), f"{_KEY}.dora_scale": torch.full((16, 1), value)}, tmp_path)
    assert [each.code for each in found.findings if each.severity == "warns"] == ([code] if code else [])


@pytest.mark.parametrize(("alpha", "code"), [(1e30, "strong"), (-4.0, "alpha"), (float("inf"), "incomplete")])
def test_an_absurd_alpha_is_an_anomaly(alpha, code, tmp_path):
    assert code in [each.code for each in _inspected(_pair(alpha=alpha), tmp_path).findings]


def test_an_alpha_that_is_true_is_no_number(tmp_path):
    found = _inspected({**_pair(), f"{_KEY}.alpha": torch.tensor(True)}, tmp_path)
    assert any("true or false" in line for line in found.anomalies)


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


# Figures of each module and block


@pytest.mark.parametrize("case", CASES)
def test_norm_and_effective_rank_are_those_of_the_delta(case, tmp_path):
    tensors, name, meant = file_of(case)
    found = _inspected(tensors, tmp_path)
    values = torch.linalg.svdvals(meant.flatten(1))
    energy = values.square().cumsum(0) / values.square().sum()
    layer = found.layers[name]
    assert layer.norm == pytest.approx(float(meant.norm()), rel=1e-6)
    assert layer.effective_rank == int((energy < 0.99).sum()) + 1
    assert layer.shape == tuple(meant.shape)
    assert found.methods == {CASES[case]["method"]: 1}
    assert found.anomalies == ()


def test_the_norm_of_a_block_is_the_root_of_the_squares_of_its_modules(tmp_path):
    adapter = sample_adapter()
    write_adapter(adapter, tmp_path / "a.safetensors", dtype="fp32")
    found = inspect_adapter(tmp_path / "a.safetensors")
    block = "denoiser.mid_block.attentions.0"
    meant = [float(dense(each).norm()) for name, each in adapter.modules.items() if name.startswith(block)]
    assert found.blocks[block] == pytest.approx(sum(each**2 for each in meant) ** 0.5)
    total = sum(float(dense(each).norm()) ** 2 for each in adapter.modules.values())
    assert sum(each**2 for each in found.blocks.values()) == pytest.approx(total)


def test_blocks_stand_in_the_order_of_the_model():
    modules = (
        "up_blocks.1.attentions.10.a",
        "up_blocks.1.attentions.2.a",
        "conv_out",
        "mid_block.resnets.0.a",
        "conv_in",
    )
    layers = {
        f"denoiser.{each}": layer_of(Weights(up=torch.ones(2, 1), down=torch.ones(1, 2), alpha=1)) for each in modules
    }
    assert list(_blocks(layers)) == [
        "denoiser.conv_in",
        "denoiser.mid_block.resnets.0",
        "denoiser.up_blocks.1.attentions.2",
        "denoiser.up_blocks.1.attentions.10",
        "denoiser.conv_out",
    ]


def test_values_without_end_have_no_norm(tmp_path):
    found = _inspected({**_pair(), f"{_KEY}.lora_up.weight": torch.full((16, 4), float("inf"))}, tmp_path)
    assert (found.layers[_NAME].norm, found.layers[_NAME].effective_rank, found.blocks) == (None, None, {})


@pytest.mark.parametrize(
    ("alpha", "rank", "code"), [(1.0, 128, "weak"), (1.0, 64, None), (256.0, 128, None), (512.0, 16, "strong")]
)
def test_an_alpha_far_from_the_rank_is_suspicious(alpha, rank, code, tmp_path):
    found = _inspected(_pair(rank=rank, alpha=alpha, inside=200, outside=200), tmp_path)
    assert [each.code for each in found.findings] == ([code] if code else [])


def test_a_weight_decomposition_and_mixed_precisions_are_notes_not_anomalies(tmp_path):
    other = {key.replace("to_k", "to_v"): each.half() for key, each in _pair().items()}
    found = _inspected({**_pair(), f"{_KEY}.dora_scale": torch.ones(16, 1), **other}, tmp_path)
    assert {each.code: each.severity for each in found.findings} == {"dora": "notes", "dtypes": "notes"}
    assert found.anomalies == ()
    assert found.methods == {"lora": 1, "lora+dora": 1}


def test_findings_have_a_remedy_and_the_gravest_stands_first(tmp_path):
    tensors = {**_pair(alpha=1000.0), "lora_unet_conv_in.lora_up.weight": torch.ones(8, 2, 1, 1)}
    found = _inspected(tensors, tmp_path)
    assert [each.severity for each in found.findings] == ["blocks", "warns"]
    assert all(each.remedy for each in found.findings)


@pytest.mark.parametrize("key", HASHES)
def test_each_stored_hash_is_computed_again(key, tmp_path):
    write_adapter(sample_adapter(), tmp_path / "a.safetensors")
    assert inspect_adapter(tmp_path / "a.safetensors").hashes.get(key, True)
    tensors = {name: torch.ones(200, 400) for name in (f"{_KEY}.lora_down.weight", f"{_KEY}.lora_up.weight")}
    tensors[f"{_KEY}.lora_up.weight"] = torch.ones(4000, 200)
    found = _inspected(tensors, tmp_path, {key: "0x" + "1" * 64})
    assert (found.hashes, found.verified) == ({key: False}, False)


def test_metadata_is_a_table_by_group(tmp_path):
    found = _inspected(
        _pair(), tmp_path, {"ss_steps": "9", "modelspec.title": "T" * 999, "x": "y", "sshs_model_hash": "0"}
    )
    assert [(row.group, row.key) for row in found.table] == [
        ("Model", "title"),
        ("Training", "steps"),
        ("Hashes", "sshs_model_hash"),
        ("Other", "x"),
    ]
    assert len(found.table[0].value) < 230
