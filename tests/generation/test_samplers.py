"""Samplers: each draws what the base draws, under the name that other programs use, with the base's settings."""

import numpy as np
import pytest

from lora_diffusion.errors import UsageError
from lora_diffusion.generation.generator import Generator
from lora_diffusion.generation.samplers import find_sampler, sampler_for, samplers

# the samplers of diffusers turn tensors into arrays in a way that numpy 2 would have otherwise
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FRESH_NOISE = {"euler_a", "dpmpp_2m_sde", "lcm"}
"""These land on another picture than DDIM does, because they draw noise at each step."""


@pytest.fixture(scope="module")
def demo():
    with Generator.open("demo", precision="no", device="cpu") as opened:
        yield opened


def pixels(picture):
    return np.asarray(picture.image, float)


@pytest.fixture(scope="module")
def fine(demo):
    """What the base's own sampler draws in many steps."""
    return pixels(demo.generate("a house icon", seed=3, steps=30))


@pytest.mark.parametrize("name", [each.name for each in samplers()])
def test_each_draws_the_thing_and_says_its_title(demo, fine, name):
    drawn = demo.generate("a house icon", seed=3, steps=8 if name == "lcm" else 12, sampler=name)
    assert drawn.settings.sampler == find_sampler(name).title
    apart = np.abs(pixels(drawn) - fine).mean()
    # noise of another seed is 60 levels away, a white picture 50
    assert apart < (30 if name in FRESH_NOISE else 10)


def test_no_name_is_the_sampler_of_the_base(demo):
    first = demo.generate("a house icon", seed=3, steps=4)
    assert first.settings.sampler == "DDIM"
    assert pixels(demo.generate("a house icon", seed=3, steps=4, sampler="ddim")).tobytes() == pixels(first).tobytes()
    assert (
        pixels(demo.generate("a house icon", seed=3, steps=4, sampler="euler_a")).tobytes() != pixels(first).tobytes()
    )


def test_noise_schedule_and_prediction_type_stay_the_bases(demo):
    base = demo._components.scheduler
    for each in samplers():
        found, _ = sampler_for(each.name, base, steps=10)
        assert found.config.prediction_type == "v_prediction"
        assert found.config.beta_end == base.config.beta_end
        assert found.config.timestep_spacing == base.config.timestep_spacing
    assert sampler_for("dpmpp_2m_karras", base, steps=10)[0].config.use_karras_sigmas
    assert not sampler_for("dpmpp_2m", base, steps=10)[0].config.use_karras_sigmas


@pytest.mark.parametrize("title", ["DPM++ 2M Karras", "dpm++ 2m karras", "dpmpp_2m_karras", " DPM++  2M Karras "])
def test_titles_of_other_programs_are_names_too(title):
    assert find_sampler(title).name == "dpmpp_2m_karras"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        find_sampler("dpmpp_2m_karas")
    assert "did you mean 'dpmpp_2m_karras'" in caught.value.hint


def test_more_steps_than_a_sampler_has_are_refused(demo, base):
    with pytest.raises(UsageError, match="51 steps"):
        demo.generate("a star", seed=0, steps=51, sampler="lcm")
    with (
        Generator.open(str(base), precision="no", device="cpu") as toy,
        pytest.raises(UsageError, match="1000 steps"),  # its first step would lie one past the end of the noise
    ):
        toy.generate("a star", seed=0, steps=1000)
