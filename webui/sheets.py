"""A contact sheet: pictures in rows and columns with headings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from datasets_tools import replacing

__all__ = ["Cell", "draw_sheet"]

LARGEST = 512
"""Pixels of the longer side of a picture on a sheet."""

GAP, HEAD, SIDE = 8, 34, 120
FONT = 16


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A picture and its place along each axis: column, row, block."""

    path: Path
    at: tuple[int, ...]


def draw_sheet(cells: Sequence[Cell], headings: Sequence[Sequence[str]], path: Path) -> Path:
    """Write a PNG of all cells: the first axis goes to the right, the second down, the third stacks blocks."""
    columns, rows, blocks = (list(headings[axis]) if axis < len(headings) else [""] for axis in range(3))
    small = {(*cell.at, 0, 0)[:3]: _small(cell.path) for cell in cells}
    width = max(image.width for image in small.values())
    height = max(image.height for image in small.values())
    left = SIDE if len(headings) > 1 else 0
    block = HEAD * (1 + bool(blocks[0])) + len(rows) * (height + GAP)
    sheet = Image.new("RGB", (left + len(columns) * (width + GAP) + GAP, len(blocks) * block + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for z, name in enumerate(blocks):
        top = z * block
        if name:
            pen.text((GAP, top + 8), _cut(name, 80), fill="black", font=font)
            top += HEAD
        for x, heading in enumerate(columns):
            pen.text((left + GAP + x * (width + GAP), top + 8), _cut(heading, width // 9), fill="black", font=font)
        for y, heading in enumerate(rows):
            down = top + HEAD + y * (height + GAP)
            pen.text((GAP, down + height // 2), _cut(heading, SIDE // 9), fill="black", font=font)
            for x in range(len(columns)):
                sheet.paste(small[(x, y, z)], (left + GAP + x * (width + GAP), down))
    with replacing(path) as aside:
        sheet.save(aside, format="PNG")
    return path


def _small(path: Path) -> Image.Image:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((LARGEST, LARGEST))
    return small


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(1, most - 1)]}…"
