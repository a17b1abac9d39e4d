"""The chart of norms, looked at pixel by pixel."""

import pytest
import torch
from PIL import Image

from lora_diffusion.adapters.spec import Weights
from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.files.inspect import Inspection, inspect_adapter
from lora_diffusion.files.plot import plot_norms

_BLUE, _ORANGE = (0, 114, 178), (213, 94, 0)


def _chart(sizes, path):
    """Draw an adapter whose blocks have these norms."""
    modules = {
        name: Weights(up=torch.full((1, 1), float(size)), down=torch.ones(1, 1), alpha=1.0)
        for name, size in sizes.items()
    }
    write_adapter(Adapter(name="a", family="sd1", modules=modules), path / "a.safetensors", dtype="fp32")
    plot_norms(inspect_adapter(path / "a.safetensors"), path / "a.png")
    return Image.open(path / "a.png").convert("RGB")


def _bars(image, colour):
    """Length of each bar of a colour, from the top; the square of the legend is shorter than any."""
    lengths, inside = [], False
    for y in range(70, image.height):
        length = sum(image.getpixel((x, y)) == colour for x in range(image.width))
        if length and not inside:
            lengths.append(length)
        inside = bool(length)
    return lengths


def test_bars_are_as_long_as_the_norms_in_the_colour_of_the_component(tmp_path):
    sizes = {f"denoiser.down_blocks.{at}.attentions.0.proj_in": at + 1 for at in range(3)}
    image = _chart({**sizes, "text_encoder.text_model.encoder.layers.0.mlp.fc1": 2}, tmp_path)
    first, second, third = _bars(image, _BLUE)
    assert second == pytest.approx(2 * first, abs=3)
    assert third == pytest.approx(3 * first, abs=3)
    assert _bars(image, _ORANGE) == [pytest.approx(second, abs=3)]


def test_the_ground_is_light_and_every_row_has_its_place(tmp_path):
    few = _chart({"denoiser.conv_in": 1}, tmp_path)
    many = _chart({f"denoiser.up_blocks.{at}.attentions.0.proj_in": 1 for at in range(9)}, tmp_path)
    assert few.getpixel((0, 0)) == (255, 255, 255)
    assert (many.height - few.height) % 8 == 0
    assert many.height > few.height


def test_nothing_to_draw_is_said_and_nothing_is_written(tmp_path):
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_norms(Inspection(path="a", dialect="kohya", family="sd1", evidence=""), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1e-30, 1e-6, 0.0, 0.7, 99.9, 1e20])
def test_any_size_of_norm_can_be_drawn(size, tmp_path):
    assert _chart({"denoiser.conv_in": size, "denoiser.conv_out": size / 3}, tmp_path).width > 800
