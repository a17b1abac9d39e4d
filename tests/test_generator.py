"""Pictures: the same request gives the same picture, and a picture says how it was made."""

import numpy as np
import pytest
from PIL import Image

from lora_diffusion.errors import CorruptFile, TargetError, UsageError, WrongFamily
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.generation.generator import Generator
from lora_diffusion.generation.picture import read_settings
from lora_diffusion.parts import module_weights, parse_part
from lora_diffusion.training import loop
from tests import tiny


@pytest.fixture(scope="module")
def adapters(base, pictures, tmp_path_factory):
    """Two adapters with a plain effect."""
    folder = tmp_path_factory.mktemp("adapters")
    plans = [tiny.plan(base, pictures, folder / str(seed), f"run.seed={seed}", "optim.lr=0.05") for seed in (1, 2)]
    return [loop.train(plan).adapter for plan in plans]


@pytest.fixture
def generator(base):
    with Generator.open(str(base), precision="no", device="cpu") as opened:
        yield opened


def draw(generator, **more):
    return generator.generate("a star", **{"seed": 3, "steps": 3, **more})


def test_the_same_request_draws_the_same_picture_and_each_setting_another(generator):
    first = draw(generator).image
    assert draw(generator).image.tobytes() == first.tobytes()
    changes = ({"seed": 4}, {"steps": 4}, {"guidance": 2.0}, {"negative": "a cat"}, {"size": (64, 128)})
    assert all(draw(generator, **change).image.tobytes() != first.tobytes() for change in changes)


def test_a_batch_draws_what_single_pictures_draw(generator):
    single = [generator.generate(prompt, seed=seed, steps=3).image for prompt, seed in (("a star", 1), ("a cat", 2))]
    batch = [picture.image for picture in generator.generate_many(["a star", "a cat"], seeds=[1, 2], steps=3)]
    for one, other in zip(single, batch, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1


def test_live_weights_of_several_adapters(generator, adapters):
    plain = draw(generator).image.tobytes()
    names = [generator.add(path, name="style") for path in adapters]
    assert names == ["style", "style-2"]
    both = draw(generator).image.tobytes()
    generator.blend = {"style": 0.5, "style-2": -0.5}
    mixed = draw(generator).image.tobytes()
    generator.remove("style-2")
    generator.remove("style")
    assert len({plain, both, mixed}) == 3
    assert draw(generator).image.tobytes() == plain


def test_weights_per_block_are_live_and_travel_with_the_picture(generator, adapters, tmp_path):
    plain = draw(generator).image.tobytes()
    name = generator.add(adapters[0])
    everywhere = draw(generator).image.tobytes()
    generator.blend = {name: parse_part("secret/path:1@unet.up=0.2@text=0")}
    shaped = generator.generate("a star", seed=3, steps=3)
    assert len({plain, everywhere, shaped.image.tobytes()}) == 3
    assert read_settings(shaped.save(tmp_path / "a.png")).parts == {name: f"{name}:1.0@unet.up=0.2@text=0.0"}
    slots = generator._slots
    for module, weight in module_weights(
        generator.blend[name], generator._adapters[name].modules, family="sd1"
    ).items():
        assert float(slots[module].module.weights) == pytest.approx(weight)
        assert weight == (0.0 if module.startswith("text") else 0.2 if ".up_blocks" in module else 1.0)
    generator.blend = {name: parse_part("x:0@unet=0")}
    assert draw(generator).image.tobytes() == plain


def test_leaving_the_block_takes_the_adapters_out(base, adapters):
    with Generator.open(str(base), precision="no", device="cpu") as opened:
        before = draw(opened).image.tobytes()
        opened.add(adapters[0])
    assert draw(opened).image.tobytes() == before


def test_a_picture_carries_its_settings(generator, adapters, tmp_path):
    name = generator.add(adapters[0], 0.8)
    picture = generator.generate("ein Stern — ★", seed=5, steps=2, negative="x, y")
    path = picture.save(tmp_path / "bild ü.png")
    assert read_settings(path) == picture.settings
    assert picture.settings.fingerprints == {name: read_adapter(adapters[0]).fingerprint}
    with Image.open(path) as image:
        assert f"<lora:{name}:0.8>" in image.info["parameters"]
        assert "Steps: 2, Sampler: DDIM" in image.info["parameters"]


def test_a_picture_of_other_programs_has_no_settings(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    for name in ("a.png", "b.png", "none.png"):
        with pytest.raises(CorruptFile, match=name):
            read_settings(tmp_path / name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 10**9},
        {"size": (65, 64)},
        {"size": (10**9, 64)},
        {"guidance": -1.0},
        {"guidance": float("nan")},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_allowed(generator, wrong):
    with pytest.raises(UsageError) as caught:
        draw(generator, **wrong)
    assert caught.value.hint


def test_wrong_weights_and_names_change_nothing(generator, adapters):
    name = generator.add(adapters[0], 0.5)
    before = draw(generator).image.tobytes()
    for wrong, error in (({name: float("nan")}, UsageError), ({"nobody": 1.0}, TargetError)):
        with pytest.raises(error):
            generator.blend = wrong
    with pytest.raises(UsageError):
        generator.add(adapters[1], float("inf"))
    assert generator.blend == {name: 0.5}
    assert draw(generator).image.tobytes() == before


def test_an_adapter_for_a_larger_base_is_refused_by_its_first_target(pictures, generator, tmp_path):
    wide = tiny.sd1(tmp_path / "wide", width=48)
    done = loop.train(tiny.plan(wide, pictures, tmp_path / "out", "run.steps=1"))
    with pytest.raises(WrongFamily, match=r"denoiser\..*attn2"):
        generator.add(done.adapter)
    assert generator.blend == {}
