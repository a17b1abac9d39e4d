"""The adapters that come with the package read, and bring their style to things they never showed."""

import subprocess
import sys

import pytest

from lora_diffusion.demo.measure import distance
from lora_diffusion.embedded import ADAPTERS, adapters, style_names
from lora_diffusion.files.adapter import read_adapter
from lora_diffusion.files.inspect import inspect_adapter
from lora_diffusion.generation.generator import Generator
from tests.demo.test_demo import drawn, tensors, true

MAX_BYTES = 1_000_000
"""Of all together: they travel inside the package."""


@pytest.fixture(scope="module")
def plain():
    """What the base draws without an adapter."""
    return drawn()


def test_they_are_small_and_their_paths_are_known_without_torch():
    assert set(adapters()) == {"blueprint", "papercut"} <= set(style_names())
    assert sum(path.stat().st_size for path in ADAPTERS.iterdir()) < MAX_BYTES
    code = "import sys; from lora_diffusion.embedded import adapters; adapters(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == [b"False"]


@pytest.mark.parametrize("name", adapters())
def test_each_reads_whole_says_its_trigger_and_nothing_private(name):
    found = read_adapter(adapters()[name])
    assert (found.name, found.trigger, found.family, found.repairs) == (name, name, "sd1", ())
    inspection = inspect_adapter(adapters()[name])
    assert inspection.anomalies == ()
    assert inspection.hashes
    assert all(inspection.hashes.values())
    assert not [value for value in found.metadata.values() if "/" in value and value != "stable-diffusion-v1/lora"]


@pytest.mark.parametrize("name", adapters())
def test_each_brings_the_colours_of_its_style(name, plain):
    styled, base = distance(drawn(adapters()[name]), true(name)), distance(plain, true(name))
    assert styled.pixels < 0.7 * base.pixels
    assert styled.colours < base.colours
    assert styled.found >= 0.75


def test_half_the_weight_lies_between_the_base_and_the_style(plain):
    with Generator.open("demo") as generator:
        name = generator.add(adapters()["blueprint"], 0.5)
        prompts = ["a crown icon", "a guitar icon"]
        blue = []
        for weight in (0.0, 0.5, 1.0):
            generator.blend = {name: weight}
            images = generator.generate_many(prompts, seeds=[0, 1], steps=15)
            means = tensors([each.image for each in images]).mean(dim=(0, 2, 3))
            blue.append(float(means[2] - means[0]))
    assert blue[0] < blue[1] < blue[2]
