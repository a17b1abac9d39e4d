"""Files that other programs wrote in their own way: each is read completely, and reading says what it mended."""

import json
from functools import cache

import pytest
import torch

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import CorruptFile
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.dense import delta
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.fix import fix_adapter
from tests.files.samples import sample_adapter, save


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


def _original_names():
    """The dotted block names of the original layout under `diffusion_model.`, as ComfyUI has its modules."""
    name = "denoiser.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    start = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k"
    draw = torch.Generator().manual_seed(0)
    weights = Weights(down=torch.randn(4, 2048, generator=draw), up=torch.randn(8, 4, generator=draw), alpha=4.0)
    return {f"{start}.lora_A.weight": weights.down, f"{start}.lora_B.weight": weights.up}, {name: weights}


MALFORMED = {
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


def test_names_of_the_original_layout_under_diffusion_model_are_read(tmp_path):
    tensors, meant = _original_names()
    save(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    _same(found.modules, meant)
    assert "diffusion_model" in found.repairs[0]


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


def test_the_same_module_in_two_dialects_is_refused(tmp_path):
    save({**_kohya(), **_diffusers()[0]}, tmp_path / "a.safetensors")
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
