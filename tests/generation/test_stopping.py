"""Stopping within a step, and small pictures on the way."""

import io

import numpy as np
import pytest
from PIL import Image

from lora_diffusion.generation.generator import Generator
from lora_diffusion.generation.preview import MAX_JPEG, SHOWN, as_jpeg
from lora_diffusion.generation.samplers import samplers
from lora_diffusion.generation.start import Start
from lora_diffusion.generation.stopping import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def demo():
    with Generator.open("demo", precision="no", device="cpu") as opened:
        yield opened


def draw(demo, **more):
    return demo.generate("a rocket icon", **{"seed": 2, "steps": 6, **more})


def test_it_stops_within_a_step_and_draws_on_as_ever(demo):
    before = draw(demo).image.tobytes()
    done = []
    with pytest.raises(Interrupted):
        draw(demo, on_step=lambda at, of: done.append(at), stop=lambda: len(done) == 2)
    assert done == [1, 2]
    assert draw(demo).image.tobytes() == before


def test_a_stop_before_the_first_step_takes_none(demo):
    done = []
    with pytest.raises(Interrupted):
        draw(demo, on_step=lambda at, of: done.append(at), stop=lambda: True)
    assert done == []


def test_a_stop_in_the_last_step_spares_the_decoder(demo):
    decoded, done = [], []
    hook = demo._components.vae.decoder.register_forward_hook(lambda *_: decoded.append(True))
    with pytest.raises(Interrupted):
        draw(demo, on_step=lambda at, of: done.append(at), stop=lambda: len(done) == 6)
    hook.remove()
    assert decoded == []


def test_a_stop_holds_from_a_picture_too(demo):
    start = Start(image=Image.new("RGB", (128, 128), "red"), sha256="", strength=0.5)
    with pytest.raises(Interrupted):
        draw(demo, start=start, stop=lambda: True)


@pytest.mark.parametrize("sampler", ["", *(each.name for each in samplers())])
def test_previews_look_like_the_picture_and_change_nothing_in_it(demo, sampler):
    seen = []
    plain = draw(demo, sampler=sampler)
    drawn = draw(demo, sampler=sampler, on_preview=lambda done, images: seen.append((done, images)), preview_every=2)
    assert drawn.image.tobytes() == plain.image.tobytes()
    assert [done for done, _ in seen] == [2, 4]
    (last,) = seen[-1][1]
    assert max(last.size) == SHOWN
    small = [np.asarray(image.convert("RGB").resize((8, 8)), float) for image in (last, drawn.image)]
    assert np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1] > 0.8


def test_a_batch_has_a_preview_of_each(demo):
    seen = []
    demo.generate_many(["a star", "a key"], seeds=[1, 2], steps=3, on_preview=lambda done, images: seen.append(images))
    assert [len(images) for images in seen] == [2, 2]


def test_a_jpeg_of_noise_stays_below_its_limit():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SHOWN, SHOWN, 3), dtype=np.uint8), "RGB")
    data = as_jpeg([noise] * 8)
    assert len(data) <= MAX_JPEG
    assert Image.open(io.BytesIO(data)).size[0] > 100
