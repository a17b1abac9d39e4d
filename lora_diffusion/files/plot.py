"""A chart of where an adapter changes a model: one bar per block, as a PNG."""

from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.storage import replacing
from lora_diffusion.errors import UsageError
from lora_diffusion.files.inspect import Inspection

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

    _Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

__all__ = ["plot_norms"]

_WIDTH, _ROW, _TOP, _BOTTOM, _RIGHT = 1100, 24, 76, 66, 90  # pixels
_TEXT, _TITLE = 15, 20
_GROUND, _INK, _FAINT = "#ffffff", "#1f2328", "#d0d7de"
# Okabe and Ito's blue, vermilion and green: told apart with every kind of colour blindness.
_COLOURS = {"denoiser": "#0072b2", "text_encoder": "#d55e00", "text_encoder_2": "#009e73"}
_TICKS = 5


def plot_norms(inspection: Inspection, path: Path | str) -> Path:
    """Draw the norm of the change per block, in the model's order, and return the path of the PNG.

    Raises UsageError where there is nothing to draw.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not inspection.blocks:
        raise UsageError(f"{inspection.path} has no module whose norm is known, so there is nothing to draw")
    path, blocks = Path(path), dict(inspection.blocks)
    font, title = ImageFont.load_default(size=_TEXT), ImageFont.load_default(size=_TITLE)
    image = Image.new("RGB", (_WIDTH, _TOP + _ROW * len(blocks) + _BOTTOM), _GROUND)
    draw = ImageDraw.Draw(image)
    left = 20 + int(max(draw.textlength(block, font=font) for block in blocks)) + 12
    largest, step = _axis(max(blocks.values()))
    draw.text((20, 14), f"{Path(inspection.path).name}: change per block", fill=_INK, font=title)
    _draw_legend(draw, inspection, font)
    _draw_axis(draw, left, len(blocks), largest, step, font)
    for row, (block, value) in enumerate(blocks.items()):
        top = _TOP + row * _ROW
        end = left + value / largest * (_WIDTH - _RIGHT - left)
        draw.text((left - 12, top + _ROW // 2), block, fill=_INK, font=font, anchor="rm")
        draw.rectangle((left, top + 4, max(end, left + 1), top + _ROW - 4), fill=_colour(block))
        draw.text((end + 6, top + _ROW // 2), f"{value:.3g}", fill=_INK, font=font, anchor="lm")
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")
    return path


def _colour(block: str) -> str:
    return _COLOURS.get(block.partition(".")[0], "#555555")


def _axis(largest: float) -> tuple[float, float]:
    """Return the end of the axis and the step between its ticks: 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return 1.0, 0.2
    rough = largest / _TICKS
    power = 10.0 ** int(f"{rough:e}".partition("e")[2])
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    count = int(largest / step) + (largest / step > int(largest / step))
    return step * max(count, 1), step


def _draw_axis(draw: "ImageDraw.ImageDraw", left: int, rows: int, largest: float, step: float, font: "_Font") -> None:
    bottom, right = _TOP + rows * _ROW, _WIDTH - _RIGHT
    for tick in range(round(largest / step) + 1):
        x = left + tick * step / largest * (right - left)
        draw.line((x, _TOP - 4, x, bottom + 4), fill=_FAINT)
        draw.text((x, bottom + 8), f"{tick * step:g}", fill=_INK, font=font, anchor="ma")
    draw.line((left, _TOP - 4, left, bottom + 4), fill=_INK)
    label = "Frobenius norm of the weight change at weight 1 (unit of the weights)"
    draw.text(((left + right) / 2, bottom + 34), label, fill=_INK, font=font, anchor="ma")


def _draw_legend(draw: "ImageDraw.ImageDraw", inspection: Inspection, font: "_Font") -> None:
    x = 20.0
    for component in dict.fromkeys(block.partition(".")[0] for block in inspection.blocks):
        draw.rectangle((x, 48, x + 14, 62), fill=_colour(component))
        draw.text((x + 20, 55), component, fill=_INK, font=font, anchor="lm")
        x += 20 + draw.textlength(component, font=font) + 28
