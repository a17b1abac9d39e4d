"""The demo styles: what is shipped is what the code draws, and shows only the style set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_diffusion.demo import STYLES, style_names
from lora_diffusion.demo import restyle as drawing
from lora_diffusion.demo.glyphs import find_font
from lora_diffusion.demo.icons import STYLE_SET, held_out, phrase
from lora_diffusion.errors import UsageError

HELD_OUT = Path(__file__).parents[1] / "data" / "held_out"
NAMES = ("blueprint", "papercut", "twoink")


@pytest.fixture(scope="module")
def font() -> Path:
    try:
        return find_font()
    except UsageError as error:
        pytest.skip(f"{error}; {error.hint}")


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def test_three_styles_are_shipped():
    assert tuple(style_names()) == NAMES
    assert tuple(sorted(drawing.STYLES)) == NAMES


@pytest.mark.parametrize("style", NAMES)
def test_every_style_shows_the_same_24_things_with_captions_of_the_content_alone(style: str):
    pictures = sorted((STYLES / style).glob("*.png"))
    assert [file.stem[3:].replace("_", " ") for file in pictures] == list(STYLE_SET)
    for file, name in zip(pictures, STYLE_SET, strict=True):
        assert file.with_suffix(".txt").read_text(encoding="utf-8") == phrase(name) + "\n"
        assert _pixels(Image.open(file)).shape == (128, 128, 3)


@pytest.mark.parametrize("style", NAMES)
def test_shipped_pictures_are_drawn_again_exactly(style: str, font: Path, tmp_path: Path):
    drawing.write_styles(tmp_path)
    for file in sorted((STYLES / style).glob("*.png")):
        assert (_pixels(Image.open(tmp_path / style / file.name)) == _pixels(Image.open(file))).all(), file.name


@pytest.mark.parametrize("style", [*NAMES, "plain"])
def test_true_pictures_of_held_out_icons_are_drawn_again_exactly(style: str, font: Path):
    for name in held_out(16):
        shipped = Image.open(HELD_OUT / style / f"{name.replace(' ', '_')}.png")
        drawn = drawing.unstyled(name) if style == "plain" else drawing.restyled(name, style)
        assert (_pixels(drawn) == _pixels(shipped)).all(), name


@pytest.mark.parametrize("style", NAMES)
def test_a_style_changes_every_icon_plainly(style: str):
    for file in (HELD_OUT / style).glob("*.png"):
        plain = _pixels(Image.open(HELD_OUT / "plain" / file.name)).astype(float)
        assert np.abs(_pixels(Image.open(file)) - plain).mean() > 10, file.name


def test_a_missing_font_names_the_package_to_install(tmp_path: Path):
    with pytest.raises(UsageError, match="was not found") as caught:
        find_font([tmp_path])
    assert "fonts-noto-color-emoji" in caught.value.hint


def test_the_font_is_found_in_nested_folders(tmp_path: Path):
    file = tmp_path / "truetype" / "emoji" / "NotoColorEmoji.ttf"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find_font([tmp_path / "absent", tmp_path]) == file
