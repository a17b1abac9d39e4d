"""Settings out of pictures: ours whole, those of other programs as far as they go, and nothing out of range."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from lora_diffusion import reusable_settings
from lora_diffusion.errors import CorruptFile
from lora_diffusion.generation.picture import Picture, Settings
from lora_diffusion.generation.reuse import parse_parameters

FOREIGN = """a cat, (detailed:1.2) <lora:ink:0.8> <lora:paper v2:0.5:0.3>
on a roof
Negative prompt: blurry, text:
two lines
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234567890, Size: 512x768, \
Model hash: abc, Model: some_model, Lora hashes: "ink: 12ab, paper v2: 34cd", Version: v1.10.1"""


def test_what_another_program_wrote():
    found = parse_parameters(FOREIGN)
    assert (found.prompt, found.negative) == ("a cat, (detailed:1.2)\non a roof", "blurry, text:\ntwo lines")
    assert (found.steps, found.guidance, found.seed, found.width, found.height) == (28, 6.5, 1234567890, 512, 768)
    assert (found.sampler, found.base) == ("dpmpp_2m_karras", "some_model")
    assert found.adapters == {"ink": 0.8, "paper v2": 0.3}
    assert found.text_weights == {"paper v2": 0.5}
    assert (found.made_here, found.began, found.notes) == (False, False, ())


def png(path, **texts):
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_dropped_picture_of_another_program(tmp_path):
    assert reusable_settings(png(tmp_path / "a.png", parameters=FOREIGN)).seed == 1234567890


def test_a_picture_of_ours_tells_everything(tmp_path):
    settings = Settings(
        prompt="a star", negative="x", seed=3, width=64, height=96, steps=9, guidance=4.5, sampler="DPM++ 2M Karras",
        base="demo", adapters={"a": 0.5}, parts={"a": "a:0.5@text=0.0"}, fingerprints={"a": "ff"},
        schedules={"a": "0.0-0.5"}, start="ab", strength=0.6,
    )  # fmt: skip
    path = Picture(image=Image.new("RGB", (8, 8)), settings=settings).save(tmp_path / "a.png")
    found = reusable_settings(path)
    same = (
        "prompt",
        "negative",
        "seed",
        "width",
        "height",
        "steps",
        "guidance",
        "strength",
        "base",
        "adapters",
        "parts",
    )
    assert all(getattr(found, name) == getattr(settings, name) for name in same)
    assert (found.sampler, found.schedules, found.made_here) == ("dpmpp_2m_karras", {"a": "0.0-0.5"}, True)
    assert (found.began, found.notes) == (True, ())


def test_what_we_write_for_others_reads_back():
    settings = Settings(
        prompt="a star", negative="x", seed=3, width=64, height=96, steps=9, guidance=4.5, sampler="Euler a",
        base="demo", adapters={"a": 0.5},
    )  # fmt: skip
    found = parse_parameters(settings.as_text())
    assert (found.prompt, found.negative, found.seed, found.sampler) == ("a star", "x", 3, "euler_a")
    assert (found.width, found.height, found.steps, found.guidance) == (64, 96, 9, 4.5)
    assert found.adapters == {"a": 0.5}


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("Steps: 1000000000", "Steps"), ("Seed: -1", "Seed"), ("CFG scale: nan", "CFG"), ("Size: 99999x1", "Size"),
        ("Steps: many", "Steps"), ("Sampler: Heun++ 9", "Heun++ 9"), ("Seed: " + "9" * 5000, "Seed"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_left_out_with_a_note(pair, says):
    found = parse_parameters(f"a star\n{pair}, Version: 1, Other: 2, More: 3")
    assert found.prompt == "a star"
    assert len(found.notes) == 1
    assert says in found.notes[0]


def test_a_tag_that_cannot_be_read_stays_in_the_prompt():
    found = parse_parameters("a star <lora:a:lbw=x>\nSteps: 3, Seed: 1, Size: 64x64")
    assert (found.prompt, found.adapters, len(found.notes)) == ("a star <lora:a:lbw=x>", {}, 1)


@pytest.mark.parametrize("text", ["", "just a prompt", "a: b", "Negative prompt:", "Steps: 20"])
def test_little_is_enough(text):
    parse_parameters(text)
    assert parse_parameters("just a prompt").prompt == "just a prompt"


@given(st.text(max_size=300))
def test_any_text_is_read_without_a_fault(text):
    parse_parameters(text)


@pytest.mark.parametrize(
    "text", ["a" * 100_000, '"' * 100_000, 'a:"' * 30_000, "<lora:" * 16_000, "a: b," * 20_000, " " * 10**5]
)
def test_hostile_text_takes_no_time(text):
    began = time.perf_counter()
    parse_parameters(text)
    assert time.perf_counter() - began < 2


def test_what_holds_no_settings_is_refused(tmp_path):
    (tmp_path / "b.png").write_text("no picture")
    for path in (png(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "none.png"):
        with pytest.raises(CorruptFile, match=path.name):
            reusable_settings(path)


def test_a_picture_of_others_that_began_with_another_says_so():
    found = parse_parameters("a cat\nSteps: 20, Seed: 1, CFG scale: 7, Denoising strength: 0.5")
    assert (found.began, found.strength, found.notes) == (True, 0.5, ())
