"""diffusers and PEFT read what we write, module by module and in the output of the UNet."""

import copy
import json

import pytest
import torch

from lora_diffusion.adapters.methods.lora import delta_weight
from lora_diffusion.files.adapter import read_adapter, write_adapter
from tests.files.samples import dense, sample_adapter, tiny_pipeline

# What diffusers and transformers say while they load, none of which is about our files.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]


def _deltas(module, prefix):
    """Read each delta back out of the layers that PEFT made."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.lora_A.keys()
            up, down = (each[name].weight.double().flatten(1).detach() for each in (layer.lora_B, layer.lora_A))
            found[f"{prefix}.{path}"] = up @ down * layer.scaling[name]
    return found


def _same(one, other):
    """Compare deltas; modules of ours are multiplied out first."""
    one, other = (
        {name: each if torch.is_tensor(each) else dense(each) for name, each in of.items()} for of in (one, other)
    )
    assert set(one) == set(other)
    for name, meant in other.items():
        assert torch.linalg.matrix_norm(one[name] - meant) <= 1e-6 * torch.linalg.matrix_norm(meant), name


def _inputs():
    draw = torch.Generator().manual_seed(3)
    return torch.randn(1, 4, 8, 8, generator=draw), 7, torch.randn(1, 5, 16, generator=draw)


def _merged(unet, modules):
    unet = copy.deepcopy(unet)
    for name, weights in modules.items():
        if name.startswith("denoiser."):
            weight = unet.get_submodule(name.removeprefix("denoiser.")).weight
            weight.data += delta_weight(weights, weight.shape)
    return unet


def _output(unet):
    with torch.no_grad():
        return unet(*_inputs()).sample


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
@pytest.mark.parametrize("alphas", [(4.0,), (4.0, 1.0, 3.0)], ids=["one-alpha", "mixed-alphas"])
def test_diffusers_applies_exactly_the_deltas_that_we_wrote(dialect, alphas, tmp_path):
    pipeline = tiny_pipeline()
    adapter = sample_adapter(pipeline, alphas=alphas)
    expected = _output(_merged(pipeline.unet, adapter.modules))
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    pipeline.load_lora_weights(str(tmp_path / "a.safetensors"))
    text = _deltas(pipeline.text_encoder, "text_encoder.text_model")
    _same(_deltas(pipeline.unet, "denoiser") | text, adapter.modules)
    assert torch.allclose(_output(pipeline.unet), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
@pytest.mark.parametrize("component", ["denoiser", "text_encoder"])
def test_diffusers_loads_an_adapter_of_one_component(dialect, component, tmp_path):
    pipeline = tiny_pipeline()
    full = sample_adapter(pipeline)
    modules = {name: each for name, each in full.modules.items() if name.startswith(f"{component}.")}
    write_adapter(type(full)(name="one", family="sd1", modules=modules), tmp_path / "a.safetensors", dialect=dialect)
    pipeline.load_lora_weights(str(tmp_path / "a.safetensors"))
    text = _deltas(pipeline.text_encoder, "text_encoder.text_model")
    _same(_deltas(pipeline.unet, "denoiser") | text, modules)


def test_diffusers_writes_what_we_read(tmp_path):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = tiny_pipeline()
    config = LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "to_k", "conv1"], init_lora_weights=False)
    pipeline.unet.add_adapter(config)
    pipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet),
        unet_lora_adapter_metadata=pipeline.unet.peft_config["default"].to_dict(),
    )
    found = read_adapter(tmp_path)
    _same(_deltas(pipeline.unet, "denoiser"), found.modules)


def test_peft_reads_our_folder_of_one_component(tmp_path):
    from peft import PeftModel

    pipeline = tiny_pipeline()
    adapter = sample_adapter(pipeline, text=False)
    write_adapter(adapter, tmp_path / "folder", dialect="peft")
    loaded = PeftModel.from_pretrained(pipeline.unet, tmp_path / "folder")
    _same(_deltas(loaded.base_model.model, "denoiser"), adapter.modules)


def test_a_folder_of_two_components_has_one_folder_for_each_and_reads_back(tmp_path):
    from peft import PeftModel

    pipeline = tiny_pipeline()
    adapter = sample_adapter(pipeline)
    write_adapter(adapter, tmp_path / "folder", dialect="peft", dtype="fp32")
    again = read_adapter(tmp_path / "folder")
    assert again.fingerprint == adapter.fingerprint
    unet = {name: each for name, each in adapter.modules.items() if name.startswith("denoiser.")}
    loaded = PeftModel.from_pretrained(pipeline.unet, tmp_path / "folder" / "unet")
    _same(_deltas(loaded.base_model.model, "denoiser"), unet)
    config = json.loads((tmp_path / "folder" / "text_encoder" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"


@pytest.mark.parametrize("flattened", [True, False], ids=["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_peft_reads_a_text_encoder_with_and_without_the_level_text_model(flattened, tmp_path):
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection

    pipeline = tiny_pipeline()
    adapter = sample_adapter(pipeline)
    write_adapter(adapter, tmp_path / "folder", dialect="peft")
    encoder = pipeline.text_encoder if flattened else CLIPTextModelWithProjection(pipeline.text_encoder.config)
    mapping = {"text_model.": ""} if flattened else None
    loaded = PeftModel.from_pretrained(encoder, tmp_path / "folder" / "text_encoder", key_mapping=mapping)
    found = _deltas(loaded.base_model.model, "text_encoder.text_model" if flattened else "text_encoder")
    _same(found, {name: each for name, each in adapter.modules.items() if name.startswith("text_encoder.")})


@pytest.mark.parametrize(
    ("alphas", "ranks"),
    [
        (
            {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 9},
            {"mid_block.attentions.0.transformer_blocks.0.attn1.to_v": 2},
        ),
        (
            {r"^down_blocks\.\d+\..*": 9, r"attn[12]\.to_(q|k)": 5, "conv2$": 7},
            {r".*resnets\.[01]\.conv2": 2, r"^mid_block.+to_v": 8},
        ),
    ],
)
def test_peft_writes_a_folder_that_we_read(alphas, ranks, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=3,
        target_modules=["to_q", "to_v", "conv2"],
        alpha_pattern=alphas,
        rank_pattern=ranks,
        use_rslora=True,
        init_lora_weights=False,
    )
    model = get_peft_model(tiny_pipeline().unet, config)
    model.save_pretrained(tmp_path)
    meant = _deltas(model.base_model.model, "denoiser")
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        _same(meant, read_adapter(path).modules)


def test_a_published_file_keeps_text_model_in_its_names(tmp_path):
    from lora_diffusion.files.safe import open_safe

    for dialect, start in (("kohya", "lora_te_text_model_"), ("diffusers", "text_encoder.text_model.")):
        write_adapter(sample_adapter(), tmp_path / "a.safetensors", dialect=dialect)
        text = [key for key in open_safe(tmp_path / "a.safetensors").entries if "_te" in key or "text_" in key]
        assert text
        assert all(key.startswith(start) for key in text)
