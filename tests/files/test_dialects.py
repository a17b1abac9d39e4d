"""Contract of every dialect that discovery finds, and the old and malformed spellings that exist in the wild."""

import json

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile, UnknownDialect, UsageError
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from lora_diffusion.files.dialects import dialects, recognise
from tests.files.samples import FIXTURES, dense, sample_adapter, save

WRITABLE = [name for name, each in dialects().items() if each.writable]


def same_deltas(one, other, tolerance=1e-6):
    assert set(one) == set(other)
    for name, weights in one.items():
        meant = dense(weights)
        assert torch.linalg.matrix_norm(dense(other[name]) - meant) <= tolerance * torch.linalg.matrix_norm(meant), name


def test_the_known_dialects_are_found():
    assert set(dialects()) >= {"kohya", "diffusers", "peft", "cloneofsimo"}


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize("alphas", [(4.0,), (4.0, 1.0, 0.3)], ids=["one-alpha", "mixed-alphas"])
def test_what_a_dialect_writes_it_reads_with_the_same_deltas(dialect, alphas, tmp_path):
    adapter = sample_adapter(alphas=alphas)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    again = read_adapter(tmp_path / "a.safetensors")
    same_deltas(adapter.modules, again.modules)
    assert (again.dialect, again.family, again.repairs) == (dialect, "sd1", ())


@pytest.mark.parametrize("dialect", WRITABLE)
def test_one_alpha_and_fp32_come_back_bit_for_bit(dialect, tmp_path):
    adapter = sample_adapter(alphas=(4.0,))
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp32")
    assert read_adapter(tmp_path / "a.safetensors").fingerprint == adapter.fingerprint


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize(("dtype", "error"), [("fp16", 1e-3), ("bf16", 8e-3), ("fp32", 1e-6)])
def test_a_precision_brings_its_rounding_and_no_more(dialect, dtype, error, tmp_path):
    adapter = sample_adapter()
    report = write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype=dtype)
    assert report.total <= error
    same_deltas(adapter.modules, read_adapter(tmp_path / "a.safetensors").modules, error * 2)


@pytest.mark.parametrize("dialect", WRITABLE)
def test_written_keys_are_claimed_by_no_other_dialect(dialect):
    tensors, metadata = dialects()[dialect].write(sample_adapter().modules, family="sd1")
    assert [name for name, each in dialects().items() if each.matches(tensors, metadata)] == [dialect]


@pytest.mark.parametrize("dialect", WRITABLE)
def test_a_stray_tensor_is_named(dialect, tmp_path):
    tensors, metadata = dialects()[dialect].write(sample_adapter().modules, family="sd1")
    save({**tensors, "foo.bar": torch.zeros(2)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(CorruptFile, match=r"foo\.bar"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize("half", [("lora_up", "lora_B"), ("lora_down", "lora_A")], ids=["up", "down"])
def test_a_missing_half_is_named(dialect, half, tmp_path):
    tensors, metadata = dialects()[dialect].write(sample_adapter().modules, family="sd1")
    gone = next(key for key in tensors if any(each in key for each in half))
    del tensors[gone]
    save(tensors, tmp_path / "a.safetensors", metadata)
    with pytest.raises(CorruptFile, match=r"has no (up|down) tensor"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dialect", WRITABLE)
def test_equal_adapters_give_equal_bytes(dialect, tmp_path):
    for name in ("a", "b"):
        write_adapter(sample_adapter(), tmp_path / name / "x.safetensors", dialect=dialect)
    assert (tmp_path / "a/x.safetensors").read_bytes() == (tmp_path / "b/x.safetensors").read_bytes()


def test_a_read_only_dialect_says_what_to_write_instead(tmp_path):
    with pytest.raises(UsageError) as caught:
        write_adapter(sample_adapter(), tmp_path / "a.safetensors", dialect="cloneofsimo")
    assert "kohya" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_shown():
    with pytest.raises(UnknownDialect, match=r"model\.diffusion_model\.out\.0\.bias"):
        recognise(["model.diffusion_model.out.0.bias"], {})


@pytest.mark.parametrize("dialect", ["diffusers", "peft"])
def test_a_tucker_factor_is_called_so_where_it_cannot_be_written(dialect, tmp_path):
    draw = torch.Generator().manual_seed(0)
    up, mid, down = (torch.randn(shape, generator=draw) for shape in ((8, 2, 1, 1), (2, 2, 3, 3), (2, 4, 1, 1)))
    weights = Weights(up=up, down=down, alpha=2.0, extra={"mid": mid})
    adapter = Adapter(name="a", family="sd1", modules={"denoiser.conv_in": weights})
    with pytest.raises(UsageError, match="Tucker"):
        write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)


def test_a_folder_with_a_pickle_alone_says_that_pickles_are_never_read(tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"adapter_model\.bin .*never read"):
        read_adapter(tmp_path)


# Old and malformed spellings: a table of (how a key of today is spelled there, what reading says about it)

_ATTENTION = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
_TEXT = "text_encoder.text_model.encoder.layers.0.self_attn"


def _attention_only():
    full = sample_adapter(kernels=False, alphas=(1.0,))
    ends = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    modules = {name: each for name, each in full.modules.items() if name.endswith(ends)}
    return {name: type(each)(down=each.down, up=each.up, alpha=float(each.rank)) for name, each in modules.items()}


def _path(name):
    return name.partition(".")[2]


def _processor(name):
    stem, _, last = _path(name).removesuffix(".0").rpartition(".")
    return f"{stem}.processor.{last}_lora"


def _old_text(name):
    stem, _, last = _path(name).rpartition(".")
    return f"{stem}.to_{last.split('_')[0]}_lora"


def _in_text(name):
    return name.startswith("text_encoder")


STYLES = {
    "diffusers 0.13": (lambda name: None if _in_text(name) else f"{_processor(name)}.{{0}}.weight", "no unet. prefix"),
    "diffusers 0.17": (
        lambda name: (
            f"text_encoder.{_old_text(name)}.{{0}}.weight"
            if _in_text(name)
            else f"unet.{_processor(name)}.{{0}}.weight"
        ),
        "",
    ),
    "diffusers 0.22": (
        lambda name: (
            f"text_encoder.{_path(name)}.lora_linear_layer.{{0}}.weight"
            if _in_text(name)
            else f"unet.{_path(name)}.lora.{{0}}.weight"
        ),
        "",
    ),
    "diffusers with PEFT": (
        lambda name: f"{'text_encoder' if _in_text(name) else 'unet'}.{_path(name)}.lora_{{1}}.weight",
        "",
    ),
    "transformers 5 exports": (
        lambda name: (
            f"text_encoder.{_path(name).removeprefix('text_model.')}.lora_{{1}}.weight"
            if _in_text(name)
            else f"unet.{_path(name)}.lora_{{1}}.weight"
        ),
        "without text_model",
    ),
    "kohya without alpha": (
        lambda name: f"lora_{'te' if _in_text(name) else 'unet'}_{_path(name).replace('.', '_')}.lora_{{0}}.weight",
        "alpha missing",
    ),
    "kohya without text_model": (
        lambda name: (
            f"lora_te_{_path(name).removeprefix('text_model.').replace('.', '_')}.lora_{{0}}.weight"
            if _in_text(name)
            else None
        ),
        "without text_model",
    ),
    "kohya doubled and joined": (
        lambda name: None if _in_text(name) else f"lora_unet_unet_{_path(name).replace('.', '_')}_lora_{{0}}.weight",
        "prefix written twice",
    ),
    "PEFT with adapter name": (
        lambda name: None if _in_text(name) else f"base_model.model.{_path(name)}.lora_{{1}}.default.weight",
        "no adapter_config.json",
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_every_spelling_that_ever_was_is_read_completely(style, tmp_path):
    spell, said = STYLES[style]
    tensors, meant = {}, {}
    for name, weights in _attention_only().items():
        if key := spell(name):
            meant[name] = weights
            tensors[key.format("down", "A")], tensors[key.format("up", "B")] = weights.down, weights.up
    save(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    same_deltas(meant, found.modules)
    assert any(said in line for line in found.repairs) if said else not found.repairs


def test_the_header_of_diffusers_decides_ranks_and_alphas(tmp_path):
    header = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {f"{_path(_ATTENTION)}.to_k": 2}}
    tensors = {
        f"unet.{_path(_ATTENTION)}.{leaf}.lora_{half}.weight": torch.ones((4, 8) if half == "A" else (8, 4))
        for leaf in ("to_q", "to_k")
        for half in "AB"
    }
    save(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(header)})
    modules = read_adapter(tmp_path / "a.safetensors").modules
    assert (modules[f"{_ATTENTION}.to_q"].alpha, modules[f"{_ATTENTION}.to_k"].alpha) == (8, 2)


def test_rank_stabilised_scale_becomes_part_of_alpha(tmp_path):
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 3, "use_rslora": True}
    tensors = {
        f"base_model.model.{_path(_ATTENTION)}.to_q.lora_A.weight": torch.ones(4, 8),
        f"base_model.model.{_path(_ATTENTION)}.to_q.lora_B.weight": torch.ones(8, 4),
    }
    save(tensors, tmp_path / "a.safetensors", {"adapter_config": json.dumps(config)})
    assert read_adapter(tmp_path / "a.safetensors").modules[f"{_ATTENTION}.to_q"].scale == 3 / 2


@pytest.mark.parametrize(
    "config",
    [
        '{"peft_type": "LORA", "lora_alpha": "a"}',
        '{"peft_type": "LORA", "lora_alpha": true}',
        '{"peft_type": "LORA", "alpha_pattern": [1]}',
        '{"peft_type": "LORA", "lora_alpha": 1e999}',
        '{"unet": 3}',
        "[]",
        "no json",
        "[" * 100_000,
    ],
)
def test_a_configuration_of_nonsense_is_corrupt(config, tmp_path):
    tensors = {"conv_in.lora_A.weight": torch.ones(2, 4, 3, 3), "conv_in.lora_B.weight": torch.ones(8, 2, 1, 1)}
    tensors = {f"base_model.model.{key}": each for key, each in tensors.items()}
    save(tensors, tmp_path / "a.safetensors", {"adapter_config": config})
    with pytest.raises(CorruptFile):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize("key", ["lora_unet_conv_in.lora_down.weight", "unet.conv_in.lora_A.weight"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 2, 2)])
def test_factors_of_other_shapes_are_corrupt(key, shape, tmp_path):
    other = key.replace("down", "up").replace("lora_A", "lora_B")
    save({key: torch.ones(shape), other: torch.ones(8, 2, 1, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [
        ({"(a+)+b": 1}, 3),
        ({r".*conv_\w+": 2, "conv_in": 1}, 2),
        ({"^conv_out": 1, "conv_(in|out)": 5}, 5),
        ({"onv_in": 1}, 3),
    ],
)
def test_the_first_alpha_pattern_that_matches_decides(patterns, alpha, tmp_path):
    config = {"peft_type": "LORA", "lora_alpha": 3, "alpha_pattern": patterns}
    tensors = {"conv_in.lora_A.weight": torch.ones(4, 8, 3, 3), "conv_in.lora_B.weight": torch.ones(8, 4, 1, 1)}
    tensors = {f"base_model.model.{key}": each for key, each in tensors.items()}
    save(tensors, tmp_path / "a.safetensors", {"adapter_config": json.dumps(config)})
    assert read_adapter(tmp_path / "a.safetensors").alphas == (alpha,)


@pytest.mark.parametrize(("leaf", "ndim"), [("proj_in", 4), ("transformer_blocks.0.attn1.to_q", 2)])
def test_a_1x1_kernel_in_the_other_dimensions_is_reshaped_and_said(leaf, ndim, tmp_path):
    key = f"lora_unet_mid_block_attentions_0_{leaf.replace('.', '_')}"
    other = (1, 1) if ndim == 2 else ()
    tensors = {
        f"{key}.lora_down.weight": torch.ones(2, 8, *other),
        f"{key}.lora_up.weight": torch.ones(8, 2, *other),
        f"{key}.alpha": torch.tensor(2.0),
    }
    save(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    (weights,) = found.modules.values()
    assert weights.down.ndim == weights.up.ndim == ndim
    assert "reshaped" in found.repairs[0]


# Files of other people


@pytest.mark.parametrize(
    ("file", "components", "rank", "tokens"),
    [
        ("cloneofsimo_analog_svd_rank4", {"denoiser": 144, "text_encoder": 48}, 4, []),
        ("cloneofsimo_lora_disney", {"denoiser": 144, "text_encoder": 48}, 1, ["<s1>", "<s2>"]),
        ("catundchat_pytorch_lora_weights", {"denoiser": 128}, 4, []),
    ],
)
def test_real_files_fit_stable_diffusion_15_module_by_module(file, components, rank, tokens):
    path = FIXTURES / f"{file}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    adapter = read_adapter(path)
    assert (adapter.family, dict(adapter.components), adapter.ranks) == ("sd1", components, (rank,))
    assert sorted(adapter.embeddings) == tokens
    shapes = _shapes_of_stable_diffusion_15()
    for name, weights in adapter.modules.items():
        assert (weights.up.shape[0], weights.down.shape[1]) == shapes[name][:2], name


def _shapes_of_stable_diffusion_15():
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    shapes = {f"denoiser.{key.removesuffix('.weight')}": tuple(each.shape) for key, each in unet.state_dict().items()}
    for key, each in text.state_dict().items():
        path = key.removesuffix(".weight").removeprefix("text_model.")
        shapes[f"text_encoder.text_model.{path}"] = tuple(each.shape)
    return shapes


@pytest.mark.parametrize("dialect", ["peft", "diffusers"])
def test_a_decomposed_adapter_without_its_magnitudes_is_not_taken_for_a_plain_one(dialect, tmp_path):
    config = {"r": 2, "lora_alpha": 2, "use_dora": True}
    start, said = (
        ("base_model.model.", {"adapter_config": json.dumps({"peft_type": "LORA", **config})})
        if dialect == "peft"
        else ("unet.", {"lora_adapter_metadata": json.dumps({f"unet.{key}": each for key, each in config.items()})})
    )
    module = f"{start}{_path(_ATTENTION)}.to_q"
    tensors = {f"{module}.lora_A.weight": torch.ones(2, 8), f"{module}.lora_B.weight": torch.ones(8, 2)}
    save(tensors, tmp_path / "a.safetensors", said)
    with pytest.raises(CorruptFile, match=r"to_q has no lora_magnitude_vector"):
        read_adapter(tmp_path / "a.safetensors")
    save(tensors | {f"{module}.lora_magnitude_vector": torch.ones(8)}, tmp_path / "b.safetensors", said)
    assert "dora_scale" in read_adapter(tmp_path / "b.safetensors").modules[f"{_ATTENTION}.to_q"].extra


@pytest.mark.parametrize("begun", ["pissa", "pissa_niter_16", "olora", "corda", "loftq"])
@pytest.mark.parametrize("dialect", ["peft", "diffusers"])
def test_factors_that_hold_a_part_of_the_base_are_not_taken_for_the_change(dialect, begun, tmp_path):
    config = {"r": 2, "lora_alpha": 2, "init_lora_weights": begun}
    start, said = (
        ("base_model.model.", {"adapter_config": json.dumps({"peft_type": "LORA", **config})})
        if dialect == "peft"
        else ("unet.", {"lora_adapter_metadata": json.dumps({f"unet.{key}": each for key, each in config.items()})})
    )
    tensors = {
        f"{start}{_path(_ATTENTION)}.to_q.lora_A.weight": torch.ones(2, 8),
        f"{start}{_path(_ATTENTION)}.to_q.lora_B.weight": torch.ones(8, 2),
    }
    save(tensors, tmp_path / "a.safetensors", said)
    with pytest.raises(CorruptFile, match=rf"init_lora_weights is '{begun}'"):
        read_adapter(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "key", ["unet.foo.bar", "text_encoder.größe", "base_model.model.foo.bar", "unet.conv_in.extra"]
)
def test_a_module_that_no_model_has_is_named_in_dotted_dialects_too(key, tmp_path):
    good = {f"{key.partition('.')[0]}.model.conv_in" if key.startswith("base_") else "unet.conv_in": (4, 3, 3)}
    tensors = {f"{name}.lora_A.weight": torch.ones(2, *inside) for name, inside in good.items()}
    tensors |= {f"{name}.lora_B.weight": torch.ones(8, 2, 1, 1) for name in good}
    tensors |= {f"{key}.lora_A.weight": torch.ones(2, 8), f"{key}.lora_B.weight": torch.ones(8, 2)}
    save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=f"no place for tensor '{key}"):
        read_adapter(tmp_path / "a.safetensors")


def test_the_second_text_encoder_alone_stays_the_second_in_a_folder_of_peft(tmp_path):
    name = "text_encoder_2.text_model.encoder.layers.0.mlp.fc1"
    weights = Weights(down=torch.ones(2, 8), up=torch.ones(16, 2), alpha=2.0)
    write_adapter(Adapter(name="a", family="sdxl", modules={name: weights}), tmp_path / "a", dialect="peft")
    assert (tmp_path / "a" / "text_encoder_2" / "adapter_model.safetensors").is_file()
    assert list(read_adapter(tmp_path / "a").modules) == [name]
