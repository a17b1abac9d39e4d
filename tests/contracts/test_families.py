"""Every family that is found: train, resume, draw, write in each dialect, read back, merge, load the merged base."""

import pytest
import torch

from lora_diffusion.adapters.inject import inject, trained_weights
from lora_diffusion.adapters.spec import AdapterSpec
from lora_diffusion.errors import WrongFamily
from lora_diffusion.families import detect, families
from lora_diffusion.files.adapter import read_adapter, write_adapter
from lora_diffusion.files.dialects import dialects
from lora_diffusion.generation.generator import Generator
from lora_diffusion.merging import merge
from lora_diffusion.training import loop
from lora_diffusion.training.stopping import StopRequest
from tests import tiny

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module", params=sorted(families()))
def family(request):
    return families()[request.param]


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    assert family.name in tiny.FAMILIES, f"add {family.name} at toy size to tests/tiny.py"
    return tiny.FAMILIES[family.name](tmp_path_factory.mktemp(family.name) / "base")


@pytest.fixture(scope="module")
def run(family, folder, pictures, tmp_path_factory):
    """Three steps with a stop after the first."""
    out, stop = tmp_path_factory.mktemp("run") / "out", StopRequest()
    stop.reason = "asked"
    loop.train(tiny.plan(folder, pictures, out, "run.steps=3", "optim.lr=0.05"), stop=stop)
    return loop.resume(out)


def first_answer(family, path, adapters=()):
    """The denoiser's first answer, the thing to compare: pictures of a random model are chaotic."""
    components = family.load(path, dtype=torch.float32, device=DEVICE)
    from lora_diffusion.adapters.inject import load

    for number, (adapter, weight) in enumerate(adapters):
        load(family.slots(components), adapter.modules, name=str(number), weight=weight)
    draw = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, components.denoiser.config.in_channels, 8, 8, generator=draw)
    with torch.no_grad():
        text = family.encode_tokens(components, family.tokenize(components, ["a red apple", ""]))
        return family.predict(components, noisy, torch.tensor([10, 900]), text)


def test_detection_finds_the_family_and_its_geometry(family, folder):
    assert detect(folder).name == family.name
    components = family.load(folder, dtype=torch.float32, device=DEVICE)
    assert family.geometry(folder) == (components.resolution, components.bucket_step)


def test_slots_are_the_same_before_and_after_injection(family, folder):
    components = family.load(folder, dtype=torch.float32, device=DEVICE)
    before = list(family.slots(components))
    inject(family.slots(components), AdapterSpec(rank=1), name="a", target_sets=family.targets)
    assert list(family.slots(components)) == before
    assert len(before) == len(set(before))


def test_every_target_set_names_modules(family, folder):
    for name in family.targets:
        components = family.load(folder, dtype=torch.float32, device=DEVICE)
        slots = family.slots(components)
        inject(slots, AdapterSpec(rank=1, targets=(name,)), name="a", target_sets=family.targets)
        assert trained_weights(slots, "a")


def test_a_resumed_run_gives_the_bytes_of_a_whole_one(run, folder, pictures, tmp_path):
    whole = loop.train(tiny.plan(folder, pictures, tmp_path / "out", "run.steps=3", "optim.lr=0.05"))
    assert whole.adapter.read_bytes() == run.adapter.read_bytes()


def test_an_adapter_changes_the_picture_and_weight_zero_does_not(run, folder):
    with Generator.open(str(folder), precision="no", device="cpu") as generator:
        plain = generator.generate("a star", seed=1, steps=3).image.tobytes()
        name = generator.add(run.adapter)
        styled = generator.generate("a star", seed=1, steps=3).image.tobytes()
        generator.blend = {name: 0.0}
        assert generator.generate("a star", seed=1, steps=3).image.tobytes() == plain
        generator.blend = {name: 1.0}
        assert generator.generate("a star", seed=1, steps=3).image.tobytes() == styled
    assert styled != plain


@pytest.mark.parametrize("dialect", sorted(name for name, each in dialects().items() if each.writable))
def test_each_dialect_gives_the_same_answer(family, folder, run, tmp_path, dialect):
    adapter = read_adapter(run.adapter)
    write_adapter(adapter, tmp_path / "a.safetensors", dialect=dialect)
    again = read_adapter(tmp_path / "a.safetensors")
    assert again.modules.keys() == adapter.modules.keys()
    live = first_answer(family, folder, [(adapter, 1.0)])
    assert torch.allclose(first_answer(family, folder, [(again, 1.0)]), live, atol=1e-5)


@pytest.mark.parametrize("name", ["merged.safetensors", "merged"])
def test_merged_and_live_give_the_same_answer(family, folder, run, tmp_path, name):
    parts = [(read_adapter(run.adapter), 0.7)]
    done = merge(folder, parts, tmp_path / name, precision="fp32")
    assert detect(done.path).name == family.name
    live, plain = first_answer(family, folder, parts), first_answer(family, folder)
    assert torch.allclose(first_answer(family, done.path), live, atol=1e-5)
    assert not torch.allclose(plain, live, atol=1e-3)


def test_a_single_file_gives_the_same_answer(family, folder, tmp_path):
    path = tiny.single_file(folder, tmp_path / "base.safetensors")
    assert detect(path).name == family.name
    assert family.geometry(path) == family.geometry(folder)
    assert torch.equal(first_answer(family, path), first_answer(family, folder))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_diffusers_reads_the_single_file_tensor_by_tensor(family, folder, tmp_path):
    import diffusers

    path = tiny.single_file(folder, tmp_path / "base.safetensors")
    pipeline = getattr(diffusers, family.pipeline_class)
    theirs, ours = pipeline.from_single_file(str(path), config=str(folder)), pipeline.from_pretrained(folder)
    for name in family.folders.values():
        expected = getattr(ours, name).state_dict()
        found = getattr(theirs, name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_prompts_are_encoded_as_the_pipeline_encodes_them(family, folder):
    components = family.load(folder, dtype=torch.float32, device=DEVICE)
    prompts = ["a red apple", ""]
    with torch.no_grad():
        encoded = family.encode_tokens(components, family.tokenize(components, prompts))
        context, _, *pooled = family.pipeline(components).encode_prompt(
            prompts, device=DEVICE, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    assert torch.equal(encoded["context"], context)
    if pooled:
        assert torch.equal(encoded["pooled"], pooled[0])


def test_a_run_with_frozen_text_gives_the_same_bytes_when_it_finds_its_captions_encoded(folder, pictures, tmp_path):
    changes = ("run.steps=2", "adapter.targets=attention")
    first = loop.train(tiny.plan(folder, pictures, tmp_path / "first", *changes))
    second = loop.train(tiny.plan(folder, pictures, tmp_path / "second", *changes))
    assert first.adapter.read_bytes() == second.adapter.read_bytes()


def test_an_adapter_of_another_family_is_named_and_refused(folder, run, tmp_path):
    from dataclasses import replace

    other = replace(read_adapter(run.adapter, name="flux style"), family="flux")
    with Generator.open(str(folder), precision="no", device="cpu") as generator:
        with pytest.raises(WrongFamily, match="flux style"):
            generator.add(other)
        assert generator.blend == {}


def test_the_tokenizers_are_there_without_the_weights(family, folder):
    alone = family.tokenizers(folder)
    loaded = family.load(folder, dtype=torch.float32, device=DEVICE).tokenizers
    text = "a shape, number 1"
    assert {name: each(text).input_ids for name, each in alone.items()} == {
        name: each(text).input_ids for name, each in loaded.items()
    }
