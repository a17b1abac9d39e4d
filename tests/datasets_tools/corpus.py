"""Pictures as people and broken programs make them: real files for the tests of this folder."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw

RED = (200, 40, 30)


def scene(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """Return a smooth ground with crisp shapes on it; the seed decides both."""
    numbers = np.random.default_rng(seed)
    coarse = numbers.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for shape in (draw.rectangle, draw.ellipse, draw.rectangle, draw.ellipse):
        left, top, across, along = numbers.uniform((0, 0, 0.15, 0.15), (0.7, 0.7, 0.35, 0.35))
        box = (left * width, top * height, (left + across) * width, (top + along) * height)
        shape(box, fill=tuple(int(value) for value in numbers.integers(0, 256, 3)))
    return image


def corners() -> Image.Image:
    """Return an upright picture of 48 x 32 whose four corners have different colours."""
    image = Image.new("RGB", (48, 32), (90, 90, 90))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    image.paste((0, 255, 0), (32, 0, 48, 16))
    image.paste((0, 0, 255), (0, 16, 16, 32))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photos(folder: Path, count: int, *, size: tuple[int, int] = (96, 64), captions: bool = True) -> Path:
    """Fill a folder with different pictures and captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene(*size, seed=number).save(folder / f"photo {number:02}.png")
        if captions:
            (folder / f"photo {number:02}.txt").write_text(f"a shape, number {number}", encoding="utf-8")
    return folder


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def bomb(width: int = 13_000, height: int = 13_000) -> bytes:
    """Return a PNG of a few kB that decodes to half a gigabyte."""
    packer = zlib.compressobj(9)
    rows = packer.compress(bytes(1 << 20)) + packer.flush()
    return png_header(width, height) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc_profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC v2 profile built by hand from its tags."""
    name = b"Test profile\0"
    white = b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78 + 12),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": white,
    } | tags
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = bytearray(128)
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = kind + space + connection
    header[36:40] = b"acsp"
    header[68:80] = fixed(0.9642, 1.0, 0.8249)
    whole = bytes(header) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def wide_gamut_profile() -> bytes:
    """Return an RGB matrix profile with the primaries of Display P3 and a pure 2.2 curve."""
    primaries = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    tags = {
        letter + b"XYZ": b"XYZ \0\0\0\0" + fixed(*xyz)
        for letter, xyz in zip((b"r", b"g", b"b"), primaries, strict=True)
    }
    return icc_profile(b"mntr", b"RGB ", b"XYZ ", tags | {letter + b"TRC": curve for letter in (b"r", b"g", b"b")})


def cmyk_profile() -> bytes:
    """Return a CMYK table profile in which every ink is the same grey: white paper, L* falls by 25 per full ink."""
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(bytes([round(255 - 63.75 * sum(ink)), 128, 128]) for ink in inks)
    ramp = bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": head + ramp * 4 + table + ramp * 3})


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
