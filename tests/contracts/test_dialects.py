"""Every dialect for every family: random adapters written, read back, and read by programs that are not ours."""

import random
import re
from functools import cache

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families import families
from lora_diffusion.families.names import component_of, underscored
from lora_diffusion.files.adapter import Adapter, read_adapter, write_adapter
from lora_diffusion.files.dense import delta
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.fix import fix_adapter
from lora_diffusion.files.inspect import inspect_adapter
from lora_diffusion.files.safe import open_safe
from tests import tiny
from tests.files.samples import save

WRITABLE = [name for name, each in dialects().items() if each.writable]
FAMILIES = sorted(families())
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    @cache
    def folder(family):
        return tiny.FAMILIES[family](tmp_path_factory.mktemp(family) / "base")

    return folder


@pytest.fixture(scope="module")
def layers(folders):
    """Canonical name -> layer of a family at toy size, for every place that can take an adapter."""

    @cache
    def found(family):
        components = families()[family].load(folders(family), dtype=torch.float32, device=torch.device("cpu"))
        return {name: slot.base for name, slot in families()[family].slots(components).items()}

    return found


def random_adapter(layers, family, seed, *, decomposed=False, one_alpha=False):
    """Any subset of layers, each with its own rank and alpha; every component has some.

    Every text encoder has an out_proj: by it diffusers 0.42.1 tells the style of its keys in kohya files.
    """
    draw, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    components = {component_of(name) for name in layers}
    ends = (".out_proj", ".to_out.0")
    chosen = [
        next(name for name in layers if component_of(name) == each and name.endswith(ends))
        for each in sorted(components)
    ]
    chosen += draw.sample(sorted(layers), min(40, len(layers)))
    modules = {}
    for name in dict.fromkeys(chosen):
        shape = layers[name].weight.shape
        rank = draw.randint(1, 6)
        extra = {}
        if decomposed:
            extra["dora_scale"] = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=noise) + 0.5
        modules[name] = Weights(
            down=torch.randn(rank, *shape[1:], generator=noise),
            up=torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=noise),
            alpha=4.0 if one_alpha else draw.choice([0.3, 1.0, float(rank), 8.0, 27.5]),
            extra=extra,
        )
    return Adapter(name="random", family=family, modules=modules)


def same(one, other, bases=None):
    assert set(one) == set(other)
    for name, weights in one.items():
        base = bases[name].weight.detach() if bases else None
        found, meant = delta(weights, base), delta(other[name], base)
        assert found.shape == meant.shape
        assert float((found - meant).norm()) <= 1e-6 * float(meant.norm()), name


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(4))
def test_random_adapters_come_back_with_the_same_deltas(family, dialect, seed, layers, tmp_path):
    adapter = random_adapter(layers(family), family, seed)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp32")
    again = read_adapter(tmp_path / "a.safetensors")
    same(again.modules, adapter.modules)
    assert (again.family, again.dialect, again.repairs) == (family, dialect, ())


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize("family", FAMILIES)
def test_weight_decomposition_comes_back_in_every_dialect(family, dialect, layers, tmp_path):
    adapter = random_adapter(layers(family), family, 7, decomposed=True)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp32")
    same(read_adapter(tmp_path / "a.safetensors").modules, adapter.modules, layers(family))


@pytest.mark.parametrize("dialect", WRITABLE)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_healthy_and_needs_no_mending(family, dialect, layers, tmp_path):
    adapter = random_adapter(layers(family), family, 3, one_alpha=True)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp32")
    found = inspect_adapter(tmp_path / "a.safetensors")
    assert (found.family, found.dialect, found.verified, found.anomalies) == (family, dialect, True, ())
    assert set(found.layers) == set(adapter.modules)
    fixed = fix_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (fixed.dialect, fixed.mended, fixed.report.total) == (dialect, (), 0.0)


@pytest.mark.parametrize("source", WRITABLE)
@pytest.mark.parametrize("target", WRITABLE)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_dialect_converts_to_every_other(family, source, target, layers, tmp_path):
    adapter = random_adapter(layers(family), family, 5)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=source, dtype="fp32")
    write_adapter(read_adapter(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", dialect=target)
    same(read_adapter(tmp_path / "b.safetensors").modules, adapter.modules)


PREFIXES = {
    "sd1": {"lora_unet", "lora_te"},
    "sd2": {"lora_unet", "lora_te"},
    "sdxl": {"lora_unet", "lora_te1", "lora_te2"},
}


@pytest.mark.parametrize("family", sorted(PREFIXES.keys() & set(FAMILIES)))
def test_kohya_files_have_the_prefixes_and_block_names_that_other_programs_look_for(family, layers, tmp_path):
    write_adapter(random_adapter(layers(family), family, 1), tmp_path / "a.safetensors", dialect="kohya")
    keys = list(open_safe(tmp_path / "a.safetensors").entries)
    prefixes = {re.match(r"lora_(unet|te\d?)", key)[0] for key in keys}
    assert prefixes == PREFIXES[family]
    blocks = {match[1] for key in keys if (match := re.match(r"lora_unet_([a-z]+_blocks?)_", key))}
    original = {"input_blocks", "middle_block", "output_blocks"}
    assert blocks <= (original if family == "sdxl" else {"down_blocks", "mid_block", "up_blocks"})
    assert all("_text_model_" in key for key in keys if key.startswith("lora_te") and "text_projection" not in key)


@pytest.mark.skipif("sdxl" not in FAMILIES, reason="the family sdxl is absent")
def test_kohya_files_of_xl_with_block_names_of_diffusers_are_read_too(layers, tmp_path):
    adapter = random_adapter(layers("sdxl"), "sdxl", 2)
    tensors = {}
    for name, weights in adapter.modules.items():
        component, _, path = name.partition(".")
        prefix = {"denoiser": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[component]
        key = f"{prefix}_{underscored(path)}"
        tensors |= {f"{key}.lora_down.weight": weights.down, f"{key}.lora_up.weight": weights.up}
        tensors[f"{key}.alpha"] = torch.tensor(weights.alpha)
    save(tensors, tmp_path / "a.safetensors")
    found = read_adapter(tmp_path / "a.safetensors")
    same(found.modules, adapter.modules)
    assert (found.family, found.repairs) == ("sdxl", ())


# Readers that are not ours


def _of_peft(module, prefix):
    """Read back what each layer of PEFT adds to its weight, decomposed or not."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for path, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            (name,) = layer.lora_A.keys()
            before = layer.get_base_layer().weight.detach().clone()
            layer.merge()
            found[f"{prefix}.{path}"] = layer.get_base_layer().weight.detach() - before
            layer.unmerge()
            assert name
    return found


@cache
def _pipeline(family, folder):
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    return kind.from_pretrained(folder, **({"add_watermarker": False} if family == "sdxl" else {}))


# diffusers 0.42.1 leaves dora_scale of kohya files out, with a warning
_READ_BY_DIFFUSERS = [("kohya", False), ("diffusers", False), ("diffusers", True)]


@pytest.mark.parametrize(("dialect", "decomposed"), _READ_BY_DIFFUSERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_puts_every_delta_where_we_mean_it(family, dialect, decomposed, folders, layers, tmp_path):
    places = {name: each for name, each in layers(family).items() if not name.endswith("text_projection")}
    adapter = random_adapter(places, family, 9, decomposed=decomposed)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect, dtype="fp32")
    pipeline = _pipeline(family, folders(family))
    pipeline.load_lora_weights(str(tmp_path / "a.safetensors"))
    try:
        found = _of_peft(pipeline.unet, "denoiser") | _of_peft(pipeline.text_encoder, "text_encoder.text_model")
        if family == "sdxl":
            found |= _of_peft(pipeline.text_encoder_2, "text_encoder_2")
    finally:
        pipeline.unload_lora_weights()
    assert set(found) == set(adapter.modules)
    for name, meant in adapter.modules.items():
        expected = delta(meant, layers(family)[name].weight.detach())
        assert float((found[name] - expected).norm()) <= 1e-5 * float(expected.norm()), name


@pytest.mark.parametrize("decomposed", [False, True], ids=["plain", "decomposed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_puts_every_delta_where_we_mean_it(family, decomposed, folders, layers, tmp_path):
    from peft import PeftModel

    places = {name: each for name, each in layers(family).items() if component_of(name) == "denoiser"}
    adapter = random_adapter(places, family, 11, decomposed=decomposed)
    write_adapter(adapter, tmp_path / "folder", dialect="peft", dtype="fp32")
    from diffusers import UNet2DConditionModel

    model: nn.Module = UNet2DConditionModel.from_pretrained(folders(family) / "unet")
    loaded = PeftModel.from_pretrained(model, tmp_path / "folder")
    found = _of_peft(loaded.base_model.model, "denoiser")
    assert set(found) == set(adapter.modules)
    for name, meant in adapter.modules.items():
        expected = delta(meant, layers(family)[name].weight.detach())
        assert float((found[name] - expected).norm()) <= 1e-5 * float(expected.norm()), name
