"""What the pixels say, on pictures made here: no photo has to be shipped, and any number of seeds can be tried."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from datasets_tools.image import load_image
from datasets_tools.lettering import lines_of
from datasets_tools.quality import BLOCKY, BLURRED, LETTERED, Quality, quality_of
from tests.datasets_tools.corpus import encoded

SIZE = (512, 512)
SOFT = ImageFilter.GaussianBlur(12)


def leaves(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a photo-like picture: ellipses of all sizes that hide each other, as leaves and stones do."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size[0] * 2, size[1] * 2), (90, 90, 90))
    pen = ImageDraw.Draw(image)
    for _ in range(1200):
        radius = min(8 / rng.uniform(0.005, 1) ** 0.8, 300)
        x, y, squeeze = rng.uniform(0, image.width), rng.uniform(0, image.height), rng.uniform(0.4, 1)
        colour = np.clip(rng.normal(120, 50, 3), 0, 255).astype(int)
        pen.ellipse((x - radius, y - radius * squeeze, x + radius, y + radius * squeeze), fill=tuple(colour.tolist()))
    return image.reduce(2)


def clouds(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return 1/f noise: the spectrum of photographs."""
    rng = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(size[1])[:, None] * size[1], np.fft.rfftfreq(size[0])[None] * size[0]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    waves = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    field = np.fft.irfft2(waves / frequency**1.1, size[::-1])
    grey = np.clip(128 + 40 * field / field.std(), 0, 255).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(grey)] * 3)


def meadow(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (40, 70, 30))
    pen = ImageDraw.Draw(image)
    for _ in range(4000):
        x, y, lean, length = rng.uniform(0, 512), rng.uniform(0, 540), rng.normal(0, 0.35), rng.uniform(8, 40)
        colour = tuple(rng.integers((20, 60, 10), (120, 190, 80)).tolist())
        pen.line((x, y, x + length * lean, y - length), fill=colour, width=2)
    return image


def graphic(seed: int = 0) -> Image.Image:
    """Return flat shapes with crisp edges on a white page."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (1024, 1024), "white")
    pen = ImageDraw.Draw(image)
    for corner in rng.uniform(250, 700, (6, 2)):
        box = (*corner, *(corner + rng.uniform(40, 250, 2)))
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw(box, fill=tuple(rng.integers(0, 200, 3).tolist()))
    return image.reduce(2)


def gradient() -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE).convert("RGB")


def enlarged(image: Image.Image) -> Image.Image:
    return image.reduce(4).resize(image.size, Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    return load_image(encoded(image, "JPEG", quality=quality))


PICTURES = [make(seed) for make in (leaves, clouds, meadow, graphic) for seed in (1, 2)]
NAMES = [f"{name} {seed}" for name in ("leaves", "clouds", "meadow", "graphic") for seed in (1, 2)]
each = pytest.mark.parametrize("picture", PICTURES, ids=NAMES)


@each
def test_sharp_pictures_are_not_called_blurred(picture):
    for sharp in (picture, as_jpeg(picture, 80)):
        assert quality_of(sharp).blur < BLURRED - 0.04


@each
def test_a_gaussian_blur_of_three_pixels_is_seen(picture):
    assert quality_of(picture.filter(ImageFilter.GaussianBlur(3))).blur > BLURRED + 0.04


@each
def test_a_picture_enlarged_four_times_is_blurred(picture):
    assert quality_of(enlarged(picture)).blur > BLURRED + 0.04


def test_a_sharp_subject_before_a_soft_background_is_sharp():
    portrait = leaves(1).filter(SOFT)
    assert quality_of(portrait).blur > BLURRED
    portrait.paste(leaves(2).crop((0, 0, 150, 150)), (180, 180))
    assert quality_of(portrait).blur < BLURRED


def test_a_picture_without_any_edge_but_with_contrast_is_wholly_blurred():
    assert quality_of(clouds(1).filter(SOFT)).blur == 1


@pytest.mark.parametrize("page", [Image.new("RGB", SIZE, "white"), gradient()], ids=["empty page", "gradient"])
def test_where_nothing_has_an_edge_there_is_no_blur_to_measure(page):
    assert quality_of(page).blur is None


def blockiness(picture: Image.Image) -> float | None:
    return quality_of(picture, picture.convert("L")).blockiness


@pytest.mark.parametrize("picture", PICTURES[:6], ids=NAMES[:6])
@pytest.mark.parametrize(("quality", "step"), [(10, 58), (25, 24), (30, 20)])
def test_strong_compression_is_found_with_its_step(picture, quality, step):
    seen = blockiness(as_jpeg(picture, quality))
    assert seen > BLOCKY
    assert seen == pytest.approx(step, rel=0.1)


@each
@pytest.mark.parametrize("quality", [75, 90, None])
def test_light_compression_and_none_are_not_called_blocky(picture, quality):
    seen = blockiness(picture if quality is None else as_jpeg(picture, quality))
    assert seen is None or seen < BLOCKY - 3


def test_blocks_are_found_after_a_crop_off_the_grid_and_a_copy_as_png():
    copy = load_image(encoded(as_jpeg(leaves(3), 20).crop((3, 5, 500, 510)), "PNG"))
    assert blockiness(copy) > BLOCKY


def test_too_small_a_part_says_nothing_about_compression():
    assert blockiness(leaves(0, (60, 60))) is None
    assert quality_of(leaves(0)).blockiness is None


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (40, 60, 120)], ids=str)
@pytest.mark.parametrize("sides", [(0, 60, 0, 60), (80, 0, 80, 0), (50, 50, 50, 50)], ids=str)
@pytest.mark.parametrize("quality", [None, 70])
def test_frames_and_bars_are_measured_on_their_sides(colour, sides, quality):
    left, top, right, bottom = sides
    framed = Image.new("RGB", (512 + left + right, 512 + top + bottom), colour)
    framed.paste(leaves(5), (left, top))
    framed = framed if quality is None else as_jpeg(framed, quality)
    shares = [left / framed.width, top / framed.height, right / framed.width, bottom / framed.height]
    assert quality_of(framed).border == pytest.approx(shares, abs=0.01)


def test_one_bar_counts_only_without_colour():
    def below(colour: tuple[int, int, int]) -> tuple[float, ...]:
        picture = Image.new("RGB", (512, 600), colour)
        picture.paste(leaves(5), (0, 0))
        return quality_of(picture).border

    assert below((255, 255, 255))[3] == pytest.approx(88 / 600, abs=0.01)
    assert below((60, 140, 60)) == (0, 0, 0, 0)  # a table, a meadow


def phone() -> Image.Image:
    page = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(page).rounded_rectangle((90, 40, 420, 470), 40, fill=(30, 30, 40))
    return page


@pytest.mark.parametrize(
    "picture",
    [*PICTURES, gradient(), phone(), Image.new("RGB", SIZE, "black")],
    ids=[*NAMES, "gradient", "phone", "black"],
)
def test_a_motif_on_a_page_a_sky_and_a_full_picture_have_no_border(picture):
    assert quality_of(picture).border == (0, 0, 0, 0)


def written(ground: Image.Image, size: int, colour: str, text: str = "Summer Collection 2024") -> Image.Image:
    picture = ground.copy()
    ImageDraw.Draw(picture).text((40, 200), text, font=ImageFont.load_default(size), fill=colour)
    return picture


@pytest.mark.parametrize("size", [14, 20, 32])
@pytest.mark.parametrize(
    ("ground", "colour"),
    [(Image.new("RGB", SIZE, "white"), "black"), (leaves(8).filter(SOFT), "white"), (leaves(8).filter(SOFT), "black")],
    ids=["page", "light on photo", "dark on photo"],
)
def test_words_are_found(ground, colour, size):
    assert quality_of(written(ground, size, colour)).lettering >= LETTERED


def test_a_wordmark_across_the_picture_is_found():
    assert quality_of(written(Image.new("RGB", SIZE, "white"), 96, "navy", "STUDIO")).lettering > 0.05


def test_lettering_is_the_share_of_its_lines():
    picture = written(Image.new("RGB", SIZE, "white"), 32, "black")
    ((left, top, right, bottom),) = lines_of(picture.convert("L"))
    box = ImageDraw.Draw(picture).textbbox((40, 200), "Summer Collection 2024", font=ImageFont.load_default(32))
    assert (left, top, right, bottom) == pytest.approx(box, abs=6)
    assert quality_of(picture).lettering == pytest.approx((right - left) * (bottom - top) / 512**2, rel=0.01)


def test_a_page_full_of_print_is_lettering():
    page = Image.new("RGB", (600, 800), "white")
    for y in range(20, 780, 16):
        ImageDraw.Draw(page).text((20, y), "the quick brown fox jumps over the lazy dog " * 2, fill="black")
    assert quality_of(page).lettering > 0.2  # of the paper; the gaps between lines are not counted


def rows_of(shape: str, pitch: int) -> Image.Image:
    """Return a pattern whose marks stand in rows as letters do, but repeat."""
    picture = Image.new("RGB", SIZE, (225, 220, 210))
    pen = ImageDraw.Draw(picture)
    for row, y in enumerate(range(4, 500, pitch)):
        for x in range(4 - (pitch if row % 2 else 0), 512, pitch * (2 if shape == "bricks" else 1)):
            wide = pitch * (2 if shape == "bricks" else 1) - 5
            draw = pen.ellipse if shape == "dots" else pen.rectangle
            if shape == "stripes":
                pen.line((x, 0, x, 511), fill=(40, 40, 60), width=pitch // 3)
            else:
                draw((x, y, x + wide, y + pitch - 5), fill=(120, 60, 50))
    return picture


PATTERNS = [rows_of(shape, pitch) for shape in ("bricks", "dots", "stripes") for pitch in (14, 30)]


@pytest.mark.parametrize("picture", [*PICTURES, *PATTERNS, gradient()])
def test_textures_patterns_and_icons_are_not_taken_for_words(picture):
    assert quality_of(picture).lettering < LETTERED


def test_colours_come_with_their_share_the_largest_first():
    flag = Image.new("RGB", SIZE, (10, 20, 120))
    flag.paste((250, 140, 20), (0, 0, 512, 128))
    assert quality_of(flag).colours == (((10, 20, 120), 0.75), ((250, 140, 20), 0.25))


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (8, 8), (9, 9), (63, 64), (513, 7)], ids=str)
def test_no_size_is_refused(size):
    noise = Image.fromarray(NOISE.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    for picture in (noise, Image.new("RGB", size, (3, 200, 9))):
        seen = quality_of(picture, picture.convert("L"))
        assert sum(share for _, share in seen.colours) > 0
        assert all(0 <= share < 0.5 for share in seen.border)
        assert 0 <= seen.lettering <= 1


def test_large_pictures_are_measured_at_a_common_size():
    small, large = leaves(4), leaves(4).resize((1536, 1536), Image.Resampling.NEAREST)
    assert quality_of(large).blur == pytest.approx(quality_of(small).blur, abs=0.02)


def test_the_contract_is_imported_without_numpy_and_pillow():
    # `datasets_tools` is left out: its __init__ may load what it likes, this module may not
    code = """
import sys, runpy
runpy.run_path("datasets_tools/quality.py")
print([name for name in ("numpy", "PIL", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_measurements_start_as_nothing_found():
    assert Quality() == Quality(blur=None, blockiness=None, border=(0, 0, 0, 0), lettering=0, colours=())
