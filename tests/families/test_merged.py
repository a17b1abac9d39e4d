"""Merged checkpoints of every family: single files there and back bit for bit, and read by diffusers."""

import pytest
import torch
from safetensors.torch import load_file

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import BaseNotFound
from lora_diffusion.families import detect, families
from lora_diffusion.files.adapter import Adapter
from lora_diffusion.files.checkpoint import open_checkpoint
from lora_diffusion.files.safe import open_safe
from lora_diffusion.merging import merge
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

# What files hold beside what is used: the last layer and projection of OpenCLIP, its scale, markers, an EMA copy.
EXTRA = {
    "sd1": {"model_ema.decay": torch.tensor(0.5)},
    "sd2": {
        "cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight": torch.randn(96, 32),
        "cond_stage_model.model.text_projection": torch.randn(32, 32),
        "cond_stage_model.model.logit_scale": torch.tensor(4.6),
    },
    "sdxl": {
        "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
        "v_pred": torch.zeros(0),
        "denoiser.sigmas": torch.randn(8),
    },
}
# A target whose tensor shares one of the original layout with two others, where the family has such.
SHARED = {
    "sd2": ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", "cond_stage_model.model", 32),
    "sdxl": ("text_encoder_2.text_model.encoder.layers.1.self_attn.q_proj", "conditioner.embedders.1.model", 32),
}


@pytest.fixture(params=sorted(tiny.FAMILIES))
def family(request):
    return families()[request.param]


@pytest.fixture
def folder(family, tmp_path):
    return tiny.FAMILIES[family.name](tmp_path / "base")


def test_a_single_file_comes_through_with_every_tensor_bit_for_bit(family, folder, tmp_path):
    path = tiny.single_file(folder, tmp_path / "one.safetensors", extra=EXTRA[family.name])
    done = merge(path, [], tmp_path / "two.safetensors")
    before, after = load_file(path), load_file(done.path)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_file_becomes_a_folder_that_diffusers_reads_and_a_file_again(family, folder, tmp_path):
    import diffusers

    path = tiny.single_file(folder, tmp_path / "one.safetensors")
    merge(path, [], tmp_path / "folder")
    assert detect(tmp_path / "folder").name == family.name
    theirs = getattr(diffusers, family.pipeline_class).from_pretrained(tmp_path / "folder")
    ours = getattr(diffusers, family.pipeline_class).from_pretrained(folder)
    for name in family.folders.values():
        found, expected = getattr(theirs, name).state_dict(), getattr(ours, name).state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    for name in ("tokenizer", "tokenizer_2"):
        if each := getattr(ours, name, None):
            options = {"padding": "max_length", "max_length": 16}
            assert getattr(theirs, name)("a star!", **options).input_ids == each("a star!", **options).input_ids
    merge(tmp_path / "folder", [], tmp_path / "two.safetensors")
    before, after = load_file(path), load_file(tmp_path / "two.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_only_the_third_that_an_adapter_touches_moves(name, tmp_path):
    import diffusers

    target, prefix, width = SHARED[name]
    folder = tiny.FAMILIES[name](tmp_path / "base")
    weights = Weights(down=torch.randn(2, width), up=torch.randn(width, 2), alpha=2.0)
    adapter = Adapter(name="a", family=name, modules={target: weights})
    done = merge(folder, [(adapter, 0.5)], tmp_path / "merged.safetensors")
    layer = target.split(".")[4]
    key = f"{prefix}.transformer.resblocks.{layer}.attn.in_proj_weight"
    before, after = tiny.single_file(folder, tmp_path / "plain.safetensors"), load_file(done.path)
    plain = load_file(before)
    moved = [name for name in plain if not torch.equal(plain[name], after[name])]
    assert moved == [key]
    assert torch.equal(after[key][width:], plain[key][width:])
    assert torch.allclose(after[key][:width], plain[key][:width] + 0.5 * weights.up @ weights.down, atol=1e-6)
    kind = families()[name].pipeline_class
    theirs = getattr(diffusers, kind).from_single_file(str(done.path), config=str(folder))
    read = open_checkpoint(done.path).tensor(f"{target}.weight")
    module = getattr(theirs, target.partition(".")[0])
    path = target.partition(".")[2] if hasattr(module, "text_model") else target.partition(".text_model.")[2]
    assert torch.equal(module.get_submodule(path).weight, read)


@pytest.mark.parametrize(
    ("name", "prediction", "architecture", "said"),
    [
        ("sd1", "epsilon", "stable-diffusion-v1", "epsilon"),
        ("sd2", "v_prediction", "stable-diffusion-v2-768-v", "v"),
        ("sd2", "epsilon", "stable-diffusion-v2-512", "epsilon"),
        ("sdxl", "v_prediction", "stable-diffusion-xl-v1-base", "v"),
    ],
)
def test_a_merged_file_says_what_it_is_and_predicts(name, prediction, architecture, said, tmp_path):
    folder = tiny.FAMILIES[name](tmp_path / "base", prediction_type=prediction)
    done = merge(folder, [], tmp_path / "merged.safetensors")
    metadata = open_safe(done.path).metadata
    assert metadata["modelspec.architecture"] == architecture
    assert metadata["modelspec.prediction_type"] == said
    assert metadata["lora_diffusion.family"] == name
    assert detect(done.path).configs(done.path)["scheduler"]["prediction_type"] == prediction


def test_a_file_scaled_to_8_bits_is_refused_as_a_base_by_name(tmp_path):
    base = tiny.FAMILIES["sd1"](tmp_path / "base")
    done = merge(base, [], tmp_path / "small.safetensors", precision="fp8")
    with pytest.raises(BaseNotFound, match="8 bits"):
        families()["sd1"].load(
            done.path, dtype=torch.float32, device=torch.device("cpu"), tokenizer=str(base / "tokenizer")
        )
