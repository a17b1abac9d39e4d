"""Files that other programs wrote in their own way: each is read completely, and reading says what it mended."""

import json
from functools import cache

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile, UsageError
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.dense import delta
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.fix import fix_adapter
from tests.files.samples import sample_adapter, save, tiny_pipeline


@cache
def _modules(*, one_rank=True):
    """Linear layers alone, all with their own rank as alpha, so that a missing alpha changes nothing."""
    full = sample_adapter(kernels=False, ranks=(4,) if one_rank else (4, 2, 3)).modules
    plain = {name: each for name, each in full.items() if "proj_in" not in name and "proj_out" not in name}
    return {name: Weights(down=each.down, up=each.up, alpha=float(each.rank)) for name, each in plain.items()}


def _kohya(modules=None):
    return dialects()["kohya"].write(modules or _modules(), family="sd1")[0]


def _diffusers(modules=None):
    return dialects()["diffusers"].write(modules or _modules(), family="sd1")


def _renamed(tensors, change):
    return {change(key): each for key, each in tensors.items()}


def _alphas(tensors, change):
    return {key: change(each) if key.endswith(".alpha") else each for key, each in tensors.items()}


def _transposed():
    return {key: each if key.endswith(".alpha") else each.T for key, each in _kohya(_modules(one_rank=False)).items()}


def _mixed():
    """The denoiser as kohya spells it, the text encoder as diffusers does."""
    modules = _modules()
    text = {name: each for name, each in modules.items() if name.startswith("text_encoder")}
    denoiser = {name: each for name, each in modules.items() if name not in text}
    return {**_kohya(denoiser), **_diffusers(text)[0]}


def _original_names(down, up):
    """The dotted block names of the original layout under `diffusion_model.`, as ComfyUI has its modules."""
    name = "denoiser.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    start = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k"
    draw = torch.Generator().manual_seed(0)
    weights = Weights(down=torch.randn(4, 2048, generator=draw), up=torch.randn(8, 4, generator=draw), alpha=4.0)
    return {f"{start}.{down}.weight": weights.down, f"{start}.{up}.weight": weights.up}, {name: weights}


def _with(tensors, leaf, value, after=".lora_up.weight"):
    """The tensors and, beside every up factor, one more that changes nothing."""
    ups = {key: each for key, each in tensors.items() if key.endswith(after)}
    shapes = {key: () if leaf == ".scalar" else each.shape[:1] for key, each in ups.items()}
    return tensors | {key.replace(after, leaf): torch.full(shape, value) for key, shape in shapes.items()}


MALFORMED = {
    "names of kohya in diffusers": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace("lora_A", "lora_down").replace("lora_B", "lora_up")),
        "lora_down and lora_up",
    ),
    "prefix written twice in diffusers": (
        lambda: _renamed(_diffusers()[0], lambda key: f"{key.partition('.')[0]}.{key}"),
        "prefix written twice",
    ),
    "text encoder of a program that loads single files, by its short name": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace("text_encoder.", "clip_l.transformer.")),
        "clip_",
    ),
    "text encoder of a program that loads single files": (
        lambda: _renamed(
            _diffusers()[0], lambda key: key.replace("text_encoder.", "text_encoders.clip_l.transformer.")
        ),
        "text_encoders.",
    ),
    "biases of zeros in PEFT": (
        lambda: _with(_diffusers()[0], ".lora_B.bias", 0.0, ".lora_B.weight"),
        "biases of zeros",
    ),
    "biases of zeros in kohya": (lambda: _with(_kohya(), ".lora_up.bias", 0.0), "biases of zeros"),
    "a scalar of one": (lambda: _with(_kohya(), ".scalar", 1.0), "scalar of 1"),
    "no change of biases": (lambda: _with(_kohya(), ".diff_b", 0.0), "diff_b"),
    "biases alone, of zeros": (lambda: {**_kohya(), "lora_unet_conv_out.diff_b": torch.zeros(4)}, "diff_b"),
    "the same in two dialects": (lambda: {**_kohya(), **_diffusers()[0]}, "with the same tensors"),
    "the same under two names": (
        lambda: {**_kohya(), **_renamed(_kohya(), lambda key: key.replace("lora_unet_", "lora_unet_unet_"))},
        "under two names",
    ),
    "a bundled embedding": (
        lambda: {**_kohya(), "bundle_emb.style.string_to_param.*": torch.ones(2, 16)},
        "bundle_emb",
    ),
    "prefix doubled": (lambda: _renamed(_kohya(), lambda key: key.replace("lora_unet_", "lora_unet_unet_")), "twice"),
    "whole prefix doubled": (
        lambda: _renamed(_kohya(), lambda key: key.replace("lora_te_", "lora_te_lora_te_")),
        "twice",
    ),
    "joined by an underscore": (lambda: _renamed(_kohya(), lambda key: key.replace(".lora_", "_lora_")), "underscore"),
    "alpha missing": (
        lambda: {key: each for key, each in _kohya().items() if not key.endswith(".alpha")},
        "alpha missing",
    ),
    "alpha missing in half of the modules": (
        lambda: {key: each for key, each in _kohya().items() if not (key.endswith(".alpha") and "attn2" in key)},
        "alpha missing",
    ),
    "no text_model": (lambda: _renamed(_kohya(), lambda key: key.replace("text_model_", "")), "without text_model"),
    "weight doubled": (
        lambda: _renamed(_kohya(), lambda key: key.replace(".weight", ".weight.weight")),
        "written twice",
    ),
    "weight missing": (lambda: _renamed(_kohya(), lambda key: key.removesuffix(".weight")), "`.weight` missing"),
    "weight doubled in diffusers": (
        lambda: _renamed(_diffusers()[0], lambda key: f"{key}.weight"),
        "written twice",
    ),
    "names of PEFT in kohya": (
        lambda: _renamed(_kohya(), lambda key: key.replace("lora_down", "lora_A").replace("lora_up", "lora_B")),
        "lora_A and lora_B",
    ),
    "prefix of LyCORIS": (
        lambda: _renamed(_kohya(), lambda key: key.replace("lora_unet_", "lycoris_").replace("lora_te_", "lycoris_")),
        "prefix lycoris",
    ),
    "prefix of PEFT inside": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace("unet.", "unet.base_model.model.")),
        "base_model.model.",
    ),
    "text_model doubled": (
        lambda: _renamed(_kohya(), lambda key: key.replace("text_model_", "text_model_text_model_")),
        "text_model written twice",
    ),
    "text_model doubled in diffusers": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace("text_model.", "text_model.text_model.")),
        "text_model written twice",
    ),
    "a compiled model on several devices": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace("unet.", "unet.module._orig_mod.")),
        "was wrapped in",
    ),
    "a wrapper around everything": (
        lambda: _renamed(_diffusers()[0], lambda key: f"module.{key}"),
        "was wrapped in",
    ),
    "prefix of PEFT before kohya": (
        lambda: _renamed(_kohya(), lambda key: f"base_model.model.{key}"),
        "was wrapped in",
    ),
    "prefix of PEFT inside kohya": (
        lambda: _renamed(_kohya(), lambda key: key.replace("lora_unet_", "lora_unet_base_model_model_")),
        "twice",
    ),
    "the name of the adapter": (
        lambda: _renamed(_diffusers()[0], lambda key: key.replace(".weight", ".default_0.weight")),
        "name of the adapter",
    ),
    "the name of the adapter in kohya": (
        lambda: _renamed(_kohya(), lambda key: key.replace(".weight", ".default.weight")),
        "name of the adapter",
    ),
    "alphas as lists": (lambda: _alphas(_kohya(), lambda alpha: alpha.reshape(1)), "list of one number"),
    "transposed": (_transposed, "transposed"),
    "two dialects": (_mixed, "several dialects"),
}


def _same(found, meant):
    assert set(found) == set(meant)
    for name, weights in meant.items():
        assert torch.allclose(delta(found[name]), delta(weights), rtol=1e-6, atol=1e-7), name


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_read_completely_and_says_so(case, tmp_path):
    make, says = MALFORMED[case]
    save(make(), tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    _same(found.modules, _modules(one_rank=case != "transposed"))
    assert any(says in line for line in found.repairs)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_mended_file_has_nothing_left_to_mend(case, tmp_path):
    make, says = MALFORMED[case]
    save(make(), tmp_path / "a.safetensors")
    fixed = fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    again = read_adapter(tmp_path / "b.safetensors")
    assert any(says in line for line in fixed.mended)
    assert again.repairs == ()
    _same(again.modules, _modules(one_rank=case != "transposed"))


@pytest.mark.parametrize("factors", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_names_of_the_original_layout_under_diffusion_model_are_read(factors, tmp_path):
    tensors, meant = _original_names(*factors)
    save(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    _same(found.modules, meant)
    assert any("diffusion_model" in line for line in found.repairs)


@pytest.mark.parametrize(
    ("leaf", "value", "says"),
    [(".lora_up.bias", 0.5, "a bias inside"), (".scalar", 2.0, "scalar other than 1")],
)
def test_what_would_change_the_result_is_refused_by_name(leaf, value, says, tmp_path):
    save(_with(_kohya(), leaf, value), tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=rf"{says}.*not supported"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("spelled", "ours"),
    [
        (
            "output_blocks_11_1_transformer_blocks_0_attn2_to_k",
            "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k",
        ),
        ("output_blocks_9_0_emb_layers_1", "up_blocks.3.resnets.0.time_emb_proj"),
        ("output_blocks_2_1_conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks_8_2_conv", "up_blocks.2.upsamplers.0.conv"),
        ("input_blocks_9_0_op", "down_blocks.2.downsamplers.0.conv"),
        (
            "output_blocks_2_1_transformer_blocks_0_attn2_to_k",
            "up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_k",
        ),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
    ],
)
def test_the_original_names_of_either_layout_are_read(spelled, ours, tmp_path):
    kernel = (1, 1) if spelled.endswith(("conv", "op")) else ()
    tensors = {
        f"lora_unet_{spelled}.lora_down.weight": torch.ones(2, 8, *kernel),
        f"lora_unet_{spelled}.lora_up.weight": torch.ones(8, 2, *kernel),
    }
    save(tensors, tmp_path / "a.safetensors")
    assert list(read_adapter(tmp_path / "a.safetensors").modules) == [f"denoiser.{ours}"]


def test_a_bundled_embedding_stays_with_the_adapter(tmp_path):
    vectors = {"string_to_param.*": torch.ones(2, 16), "clip_g": torch.ones(2, 20)}
    save({**_kohya(), **{f"bundle_emb.ink.{key}": each for key, each in vectors.items()}}, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors").embeddings
    assert {token: tuple(each.shape) for token, each in found.items()} == {"ink": (2, 16), "ink.clip_g": (2, 20)}


def test_a_file_beside_a_mended_one_is_not_replaced(tmp_path):
    save({**_kohya(), "bundle_emb.style.string_to_param.*": torch.ones(2, 16)}, tmp_path / "a.safetensors")
    (tmp_path / "b.embeddings.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"b\.embeddings\.safetensors exists"):
        fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "b.embeddings.safetensors").read_bytes() == b"precious"
    assert not (tmp_path / "b.safetensors").exists()


def test_a_denoiser_that_diffusers_saved_alone_is_read_with_its_alphas(tmp_path):
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    unet = tiny_pipeline().unet
    assert isinstance(unet, UNet2DConditionModel)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "conv1"], init_lora_weights=False))
    unet.save_lora_adapter(tmp_path, weight_name="a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    layers = {f"denoiser.{name}": each for name, each in unet.named_modules() if hasattr(each, "get_delta_weight")}
    assert found.modules.keys() == layers.keys()
    for name, layer in layers.items():
        assert torch.allclose(delta(found.modules[name]), layer.get_delta_weight("default"), atol=1e-6), name
    assert any("saved on its own" in line for line in found.repairs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_fraction_that_half_precision_rounded_is_said_and_a_whole_number_is_not(dtype, tmp_path):
    for value, says in ((1.1, True), (16.0, False)):
        save(_alphas(_kohya(), lambda alpha, value=value: torch.tensor(value, dtype=dtype)), tmp_path / "a.safetensors")
        found = read_adapter(tmp_path / "a.safetensors")
        assert any("half precision" in line for line in found.repairs) == says
        assert found.alphas == (float(torch.tensor(value, dtype=dtype)),)


def test_whole_numbers_as_alphas_are_read(tmp_path):
    save(_alphas(_kohya(), lambda alpha: alpha.long()), tmp_path / "a.safetensors")
    assert read_adapter(tmp_path / "a.safetensors").alphas == (4.0,)


def test_a_square_module_alone_is_not_taken_for_transposed(tmp_path):
    """A blend of many adapters has more rank than a small weight has sides; nothing says that it lies the other way."""
    weights = Weights(down=torch.randn(20, 8), up=torch.randn(8, 20), alpha=20.0)
    meant = {"denoiser.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": weights}
    save(_kohya(meant), tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    _same(found.modules, meant)
    assert found.repairs == ()


@pytest.mark.parametrize("what", ["lora_A", "alpha"])
def test_different_tensors_for_one_module_in_two_dialects_are_refused(what, tmp_path):
    other = {key: each * 2 if what in key else each for key, each in _diffusers()[0].items()}
    kohya = _alphas(_kohya(), lambda alpha: alpha * 2) if what == "alpha" else _kohya()
    save({**kohya, **other}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=r"no place for .* \(and \d+ others\)"):
        read_adapter(tmp_path / "a.safetensors")


def test_the_first_tensor_without_a_place_is_named_and_the_others_counted(tmp_path):
    strays = {f"lora_unet_nonsense_{at}.alpha": torch.tensor(1.0) for at in range(3)}
    save({**_kohya(), **strays}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=r"lora_unet_nonsense_0\.alpha' \(and 2 others\)"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
def test_ranks_and_alphas_of_each_module_are_its_own(dialect, tmp_path):
    names = [name for name in _modules() if name.startswith("denoiser")][:6]
    draw = torch.Generator().manual_seed(3)
    meant = {}
    for at, name in enumerate(names):
        rank, shape = at + 1, _modules()[name].shape
        meant[name] = Weights(
            down=torch.randn(rank, shape[1], generator=draw),
            up=torch.randn(shape[0], rank, generator=draw),
            alpha=(at + 1) ** 2 / 3,
        )
    tensors, metadata = _by_other_programs(dialect, meant)
    save(tensors, tmp_path / "a.safetensors", metadata)
    found = read_adapter(tmp_path / "a.safetensors").modules
    assert {name: (each.rank, round(each.alpha, 5)) for name, each in found.items()} == {
        name: (each.rank, round(each.alpha, 5)) for name, each in meant.items()
    }


def _by_other_programs(dialect, modules):
    """As other programs write mixed alphas; we ourselves write one alpha where diffusers would go wrong."""
    paths = {name.partition(".")[2]: each for name, each in modules.items()}
    if dialect == "kohya":
        keys = {f"lora_unet_{path.replace('.', '_')}": each for path, each in paths.items()}
        return {
            f"{key}.{leaf}": tensor
            for key, each in keys.items()
            for leaf, tensor in (
                ("lora_down.weight", each.down),
                ("lora_up.weight", each.up),
                ("alpha", torch.tensor(each.alpha)),
            )
        }, None
    start = "unet." if dialect == "diffusers" else "base_model.model."
    tensors = {
        f"{start}{path}.lora_{half}.weight": tensor
        for path, each in paths.items()
        for half, tensor in (("A", each.down), ("B", each.up))
    }
    config = {"r": 1, "lora_alpha": 1, "alpha_pattern": {path: each.alpha for path, each in paths.items()}}
    if dialect == "peft":
        return tensors, {"adapter_config": json.dumps({"peft_type": "LORA", **config})}
    return tensors, {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}


@pytest.mark.parametrize("start", ["", "base_model.model."])
def test_two_adapters_in_one_file_are_refused_and_not_mixed(start, tmp_path):
    keys = iter(("one", "two") * 1000)
    tensors = _renamed(_diffusers()[0], lambda key: key.replace("unet.", f"{start or 'unet.'}"))
    tensors = {key.replace(".weight", f".{next(keys)}.weight"): each for key, each in tensors.items()}
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=r"no place for tensor .*\.two\.weight"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("inside", "kernel"), [(36, (3, 3)), (35, (1, 1))])
def test_a_flattened_kernel_of_a_lora_gets_its_dimensions(inside, kernel, tmp_path):
    draw = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, inside, generator=draw), torch.randn(8, 4, generator=draw)
    save(
        {"lora_unet_conv_in.lora_down.weight": down, "lora_unet_conv_in.lora_up.weight": up}, tmp_path / "a.safetensors"
    )
    (weights,) = read_adapter(tmp_path / "a.safetensors").modules.values()
    assert weights.shape == (8, inside // (kernel[0] * kernel[1]), *kernel)
    assert torch.allclose(delta(weights).flatten(1), up @ down, atol=1e-5)


def test_block_names_of_the_original_layout_are_read_under_unet_too(tmp_path):
    spelled = {
        "unet.input_blocks.4.1.proj_in": "denoiser.down_blocks.1.attentions.0.proj_in",
        "unet.output_blocks.2.2.conv": "denoiser.up_blocks.0.upsamplers.0.conv",
        "clip_l.text_model.encoder.layers.0.mlp.fc1": "text_encoder.text_model.encoder.layers.0.mlp.fc1",
        "clip_g.text_model.encoder.layers.0.mlp.fc1": "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
    }
    tensors = {}
    for key in spelled:
        kernel = (1, 1) if key.endswith("conv") else ()
        tensors |= {f"{key}.lora_down.weight": torch.ones(2, 8, *kernel), f"{key}.alpha": torch.tensor(1.0)}
        tensors |= {f"{key}.lora_up.weight": torch.ones(8, 2, *kernel)}
    save(tensors, tmp_path / "a.safetensors")
    adapter = read_adapter(tmp_path / "a.safetensors")
    assert (set(adapter.modules), adapter.family) == (set(spelled.values()), "sdxl")
    assert any("original layout" in line for line in adapter.repairs)
