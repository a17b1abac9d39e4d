"""Some 240 picture files as people, cameras and broken or hostile programs make them, each with what must become of it.

Built here from small drawings; nothing is stored. `READ`: it is trained on. `EITHER`: damage that the format cannot
show, so both are right. Any other text: it is refused, and the reason holds this text.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tests.datasets_tools.corpus import bomb, cmyk_profile, encoded, png_chunk, png_header, scene, wide_gamut_profile

READ, EITHER = "<read>", "<either>"
BOMBS = "bomb "  # how their names begin
_END = 12  # bytes of a PNG's last chunk

Case = tuple[str, bytes, str]


def cases() -> Iterator[Case]:
    """Yield (file name, bytes, what must become of it)."""
    yield from _cut()
    yield from _flipped()
    yield from _in_disguise()
    yield from _modes()
    yield from _turned()
    yield from _moving()
    yield from _sizes()
    yield from _extra_data()
    yield from _jpegs()
    yield from _tiffs()
    yield from _bitmaps()
    yield from bombs()


def _cut() -> Iterator[Case]:
    jpeg = encoded(scene(160, 120, seed=1), "JPEG")
    for number in range(20):
        yield (
            f"cut {number:02}.jpg",
            jpeg[: max(1, len(jpeg) * number // 20)],
            "a JPEG, but" if number else "not a pict",
        )
    for format in ("PNG", "WEBP", "TIFF", "BMP", *(("AVIF",) if features.check("avif") else ())):
        whole = encoded(scene(160, 120, seed=2), format)
        for share in (0.1, 0.5, 0.9):
            yield f"cut {share}.{format.lower()}", whole[: int(share * len(whole))], f"a{'n' * (format == 'AVIF')} "
    yield "cut before the end.png", encoded(scene(seed=3), "PNG")[:-_END], EITHER
    yield "cut end marker.jpg", encoded(scene(seed=4), "JPEG")[:-2], "truncated"


def _flipped() -> Iterator[Case]:
    whole = encoded(scene(96, 64, seed=5), "PNG")
    for number in range(40):
        data = bytearray(whole)
        place = 8 + number * (len(data) - 8 - _END) // 40
        data[place] ^= 0x10
        yield f"flipped {number:02}.png", bytes(data), "a PNG, but"
    for format in ("JPEG", "WEBP", "TIFF", "BMP"):
        whole = encoded(scene(96, 64, seed=6), format)
        for number in range(4):
            data = bytearray(whole)
            data[(2 * number + 1) * len(data) // 8] ^= 0x55
            yield f"flipped {number}.{format.lower()}", bytes(data), EITHER


def _in_disguise() -> Iterator[Case]:
    others = {
        "nothing": (b"", "0 bytes"),
        "page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>x()</script></svg>', "an SVG"),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch pwned) (r) file\n", "an EPS"),
        "binary eps": (b"\xc5\xd0\xd3\xc6" + bytes(60), "an EPS"),
        "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
        "zip": (b"PK\3\4" + bytes(60), "a ZIP"),
        "text": (b"ein Bild von einem Haus\n", "a text file"),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "a HEIC photo"),
        "video": (b"\0\0\0\x18ftypisom" + bytes(60), "a video"),
        "psd": (b"8BPS\0\1" + bytes(60), "a Photoshop"),
        "jxl": (b"\xff\x0a" + bytes(60), "a JPEG XL"),
        "gif": (encoded(scene(), "GIF"), "a GIF"),
        "ico": (encoded(scene(32, 32), "ICO"), "an icon"),
        "jp2": (encoded(scene(), "JPEG2000"), "a JPEG 2000"),
        "ppm": (encoded(scene(), "PPM"), "not a picture in a known format"),
        "tga": (encoded(scene(), "TGA"), "not a picture in a known format"),
        "noise": (np.random.default_rng(0).bytes(3000), "not a picture in a known format"),
        "zeros": (bytes(3000), "not a picture in a known format"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        "signature": (b"\x89PNG\r\n\x1a\n", "a PNG, but"),
        "start": (b"\xff\xd8\xff", "a JPEG, but"),
        "riff": (b"RIFF\x08\0\0\0WEBPVP8 ", "a WebP, but"),
        "bm": (b"BM", "a BMP, but"),
        "tiff": (b"II*\0\xff\xff\xff\xff", "a TIFF, but"),
    }
    for name, (data, what) in others.items():
        for ending in ("png", "jpg"):
            yield f"disguised {name}.{ending}", data, what
    for number, format in enumerate(("PNG", "JPEG", "WEBP", "TIFF", "BMP")):
        yield f"misnamed {format}.{'jpg' if format == 'PNG' else 'png'}", encoded(scene(seed=20 + number), format), READ
    yield "animation.gif", encoded(scene(), "GIF", save_all=True, append_images=[scene(seed=1)]), "a GIF"


def _modes() -> Iterator[Case]:
    plain = scene(48, 40, seed=30)
    grey = plain.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = plain.convert("RGBA")
    clear.paste((9, 250, 9, 0), (0, 0, 20, 20))
    for format in ("PNG", "TIFF"):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
            yield f"mode {mode}.{format.lower()}", encoded(clear.convert(mode), format), READ
        yield f"mode 16 bit grey.{format.lower()}", encoded(deep, format), READ
    for mode in ("CMYK", "LAB"):
        yield f"mode {mode}.tiff", encoded(plain.convert(mode) if mode != "LAB" else _lab(), "TIFF"), READ
    yield "mode float.tiff", encoded(grey.convert("F"), "TIFF"), "no agreed white"
    yield "mode 32 bit.tiff", encoded(grey.convert("I"), "TIFF"), "no agreed white"
    yield "mode 16 bit big endian.tiff", _tiff(np.asarray(deep).astype(">u2").tobytes(), (48, 40), bits=(16,)), READ
    yield "mode 16 bit rgb.png", _deep_png(), READ
    wide = np.asarray(plain).astype(">u2") * 257
    yield "mode 16 bit rgb.tiff", _tiff(wide.tobytes(), (48, 40), bits=(16, 16, 16), photometric=2), READ
    yield "mode grey with rgb profile.png", encoded(grey, "PNG", icc_profile=wide_gamut_profile()), READ
    yield "mode CMYK with profile.jpg", encoded(plain.convert("CMYK"), "JPEG", icc_profile=cmyk_profile()), READ
    yield "mode CMYK with profile.tiff", encoded(plain.convert("CMYK"), "TIFF", icc_profile=cmyk_profile()), READ
    yield "mode CMYK.jpg", encoded(plain.convert("CMYK"), "JPEG"), READ
    yield "mode YCCK.jpg", ycck((200, 40, 30)), READ
    palette = plain.quantize(8)
    yield "mode P one clear.png", encoded(palette, "PNG", transparency=3), READ
    yield "mode P half clear.png", encoded(palette, "PNG", transparency=bytes([0, 128, 255])), READ
    for bits in (1, 2, 4):
        yield f"mode palette of {bits} bits.png", encoded(plain.quantize(1 << bits), "PNG", bits=bits), READ
    yield "mode RGB one clear.png", encoded(plain, "PNG", transparency=plain.getpixel((3, 3))), READ
    yield "mode 16 bit grey one clear.png", encoded(deep, "PNG", transparency=deep.getpixel((3, 3))), READ
    yield "mode clear.webp", encoded(clear, "WEBP"), READ
    yield "mode lossless.webp", encoded(clear, "WEBP", lossless=True), READ
    if features.check("avif"):
        yield "mode RGB.avif", encoded(plain, "AVIF"), READ
        yield "mode RGBA.avif", encoded(clear, "AVIF"), READ


def _turned() -> Iterator[Case]:
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        for turn in (*range(9), 9, 65535):
            yield f"turned {turn}.{format.lower()}", encoded(scene(seed=100 + turn), format, exif=exif_of(turn)), READ


def _moving() -> Iterator[Case]:
    frames = [scene(60, 40, seed=seed) for seed in range(50, 53)]
    for name, format in (("webp", "WEBP"), ("png", "PNG"), ("tiff", "TIFF")):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        yield f"moving.{name}", data, READ
        yield f"moving cut.{name}", data[: len(data) * 3 // 4], EITHER
    if features.check("avif"):
        yield "moving.avif", encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]), READ
    portrait = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    yield "portrait.jpg", portrait, READ
    yield "portrait cut.jpg", portrait[: len(portrait) * 3 // 4], READ
    broken = portrait.replace(b"MPF\0", b"MPF\0XX", 1)
    yield "portrait index broken.jpg", broken, READ


def _sizes() -> Iterator[Case]:
    for width, height in ((1, 1), (1, 5000), (5000, 1), (16_384, 2), (2, 16_384), (3, 3)):
        for format in ("PNG", "JPEG"):
            yield f"size {width}x{height}.{format.lower()}", encoded(scene(width, height, seed=width), format), READ
    yield "size 16385x2.png", encoded(Image.new("RGB", (16_385, 2)), "PNG"), "16385 x 2"
    yield "size none.png", png_header(0, 0) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""), "a PNG, but"
    yield (
        "size none.bmp",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, *[0] * 6),
        "a BMP, but",
    )


def _extra_data() -> Iterator[Case]:
    plain = encoded(scene(seed=60), "PNG")
    start, end = plain[:33], plain[33:]  # behind the header chunk
    huge = zlib.compress(bytes(80_000_000), 9)
    yield "extra zTXt bomb.png", start + png_chunk(b"zTXt", b"note\0\0" + huge) + end, "a PNG, but"
    yield "extra iTXt bomb.png", start + png_chunk(b"iTXt", b"note\0\1\0\0\0" + huge) + end, "a PNG, but"
    yield "extra iCCP bomb.png", start + png_chunk(b"iCCP", b"icc\0\0" + huge) + end, "a PNG, but"
    yield "extra iCCP broken.png", start + png_chunk(b"iCCP", b"icc\0\0" + b"not deflated") + end, READ
    yield "extra iCCP short.png", start + png_chunk(b"iCCP", b"icc") + end, EITHER
    yield "extra late eXIf.png", _with_late_exif(scene(seed=61)), READ
    yield "extra bytes after the end.png", plain + b"PK\3\4 polyglot" * 50, READ
    yield "extra workflow.png", start + png_chunk(b"tEXt", b"workflow\0" + b"{}" * 900_000) + end, READ
    yield "extra unknown chunk.png", start + png_chunk(b"zzZz", b"x" * 99) + end, READ
    yield "extra critical chunk.png", start + png_chunk(b"ZZZZ", b"x" * 99) + end, EITHER
    yield "extra second header.png", start + start[8:] + end, EITHER
    for number, profile in enumerate((b"x", b"not a profile", bytes(200), wide_gamut_profile()[:-300], b"\xff" * 5000)):
        for format in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield f"extra profile {number}.{format.lower()}", encoded(scene(seed=62), format, icc_profile=profile), READ
    for number, exif in enumerate((b"Exif\0\0", b"Exif\0\0XX", b"Exif\0\0II*\0\xff\xff\xff\xff", _endless_exif())):
        for format in ("JPEG", "PNG", "WEBP"):
            yield f"extra exif {number}.{format.lower()}", encoded(scene(seed=63), format, exif=exif), READ
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/>'
    yield "extra xmp.jpg", encoded(scene(seed=64), "JPEG", xmp=xmp), READ
    yield "extra xmp bomb.jpg", encoded(scene(seed=64), "JPEG", xmp=_laughs()), READ


def _jpegs() -> Iterator[Case]:
    plain = scene(seed=70)
    baseline = encoded(plain, "JPEG")
    yield "jpeg progressive.jpg", encoded(plain, "JPEG", progressive=True), READ
    yield "jpeg grey.jpg", encoded(plain.convert("L"), "JPEG"), READ
    yield "jpeg restart markers.jpg", encoded(plain, "JPEG", restart_marker_rows=1), READ
    yield "jpeg no subsampling.jpg", encoded(plain, "JPEG", subsampling=0), READ
    yield "jpeg rgb.jpg", encoded(plain, "JPEG", keep_rgb=True), READ
    for marker in (0xC1, 0xC3, 0xC5, 0xC9, 0xCA):  # extended, lossless, hierarchical, arithmetic
        data = baseline.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
        yield f"jpeg coding {marker:x}.jpg", data, EITHER
    yield "jpeg with thumbnail.jpg", _with_thumbnail(plain), READ
    yield "jpeg bytes after the end.jpg", baseline + bytes(5000), READ
    yield "jpeg bytes before the start.jpg", b"\r\n" + baseline, "not a picture"
    yield "jpeg comment.jpg", encoded(plain, "JPEG", comment=b"\xff\0<script>" * 500), READ
    yield "jpeg standard tables.jpg", baseline.replace(b"\xff\xc4", b"\xff\xef"), READ  # as cameras film
    yield "jpeg 12 bit.jpg", baseline.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1), "a JPEG, but"


def _tiffs() -> Iterator[Case]:
    plain = scene(48, 40, seed=80)
    for how in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "raw"):
        yield f"tiff {how}.tif", encoded(plain, "TIFF", compression=how), READ
        whole = encoded(plain, "TIFF", compression=how)
        yield f"tiff {how} damaged.tif", whole[:60] + bytes(200) + whole[260:], EITHER
    yield "tiff group4.tif", encoded(plain.convert("1"), "TIFF", compression="group4"), READ
    yield "tiff many pages.tif", encoded(plain, "TIFF", save_all=True, append_images=[plain] * 60), READ
    yield "tiff tiles.tif", _tiles(), READ
    yield "tiff pages in a ring.tif", _ring(), EITHER
    yield "tiff big.tif", encoded(plain, "TIFF", big_tiff=True), READ
    yield "tiff no tags.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", "a TIFF, but"
    yield "tiff half float.tif", _tiff(bytes(48 * 40 * 2), (48, 40), bits=(16,), sample_format=3), "a TIFF, but"


def _bitmaps() -> Iterator[Case]:
    pixels = b"\x40\x01" * 40 + b"\0\1"
    header = struct.pack("<IHHI", 14 + 40 + 1024 + len(pixels), 0, 0, 14 + 40 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, 64, 40, 1, 8, 1, len(pixels), 2835, 2835, 256, 0)
    lines = (b"\x40\x05\0\0") * 40 + b"\0\1"
    palette = bytes(value for index in range(256) for value in (index, 255 - index, 7, 0))
    yield "bitmap rle.bmp", b"BM" + header + info + palette + lines, READ
    yield "bitmap rle short.bmp", b"BM" + header + info + palette + lines[:50], EITHER
    v4 = struct.pack(
        "<IiiHHIIiiII4I", 108, 16, 16, 1, 32, 3, 1024, 2835, 2835, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF << 24
    )
    body = bytes(value for index in range(256) for value in (index, 50, 200, index))
    v4 += b"BGRs" + bytes(108 - len(v4) - 4)
    yield "bitmap alpha.bmp", b"BM" + struct.pack("<IHHI", 14 + 108 + 1024, 0, 0, 122) + v4 + body, READ
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bitmap {mode}.bmp", encoded(scene(33, 35, seed=90).convert(mode), "BMP"), READ
    upside = encoded(scene(32, 32, seed=91), "BMP")
    yield "bitmap from the top.bmp", upside[:22] + struct.pack("<i", -32) + upside[26:], READ


def bombs() -> Iterator[Case]:
    """Yield small files that claim huge sizes in their headers; a careful reader decodes none of them."""
    yield BOMBS + "wide.png", bomb(13_000, 13_000), "64,000,000"
    yield BOMBS + "long.png", bomb(30_000, 100), "64,000,000"
    yield BOMBS + "largest.png", png_header(2**31 - 1, 2**31 - 1) + png_chunk(b"IDAT", b""), "64,000,000"
    jpeg = encoded(scene(seed=1), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    yield BOMBS + "baseline.jpg", jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :], "64,000,000"
    jpeg = encoded(scene(seed=1), "JPEG", progressive=True)
    frame = jpeg.index(b"\xff\xc2") + 5
    yield BOMBS + "progressive.jpg", jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :], "64,000,000"
    bmp = encoded(scene(seed=1), "BMP")
    yield BOMBS + "bitmap.bmp", bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:], "64,000,000"
    yield BOMBS + "strip.tif", _tiff(bytes(64), (60_000, 60_000), bits=(8,)), "64,000,000"
    moving = encoded(scene(seed=1), "WEBP", save_all=True, append_images=[scene(seed=2)])
    canvas = moving.index(b"VP8X") + 12
    yield BOMBS + "canvas.webp", moving[:canvas] + b"\xff\x3f\0\xff\x3f\0" + moving[canvas + 6 :], "64,000,000"
    if features.check("avif"):
        avif = encoded(scene(seed=1), "AVIF")
        place = avif.index(b"ispe") + 8
        yield BOMBS + "extent.avif", avif[:place] + struct.pack(">II", 16_000, 16_000) + avif[place + 8 :], "64,000,000"


def exif_of(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif.tobytes()


def ycck(colour: tuple[int, int, int]) -> bytes:
    """Return a JPEG of one colour as Photoshop stores CMYK: inverted inks, three of them turned into YCbCr."""
    # the decoder's RGB of the stored YCbCr are the inks themselves: no cyan, but what is missing of the others
    inks = Image.new("RGB", (32, 32), tuple(255 - value for value in colour)).convert("YCbCr").split()
    stored = [Image.eval(one, lambda value: 255 - value) for one in (*inks, Image.new("L", (32, 32), 255))]
    data = encoded(Image.merge("CMYK", stored), "JPEG", quality=100)
    adobe = data.index(b"Adobe") + 11
    return data[:adobe] + b"\2" + data[adobe + 1 :]


def _lab() -> Image.Image:
    return Image.merge("LAB", [Image.new("L", (40, 40), value) for value in (127, 140, 120)])


def _deep_png() -> bytes:
    pixels = np.asarray(scene(48, 40, seed=31)).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0))
    return header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def _with_late_exif(image: Image.Image) -> bytes:
    whole = encoded(image, "PNG")
    return whole[:-_END] + png_chunk(b"eXIf", exif_of(6)[6:]) + whole[-_END:]


def _endless_exif() -> bytes:
    """Return EXIF data whose directory names itself as the next one, and as its own part."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)


def _laughs() -> bytes:
    """Return XML that would grow to 10^9 words if entities were followed."""
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "ha">{lines}]><x:xmpmeta xmlns:x="adobe:ns:meta/">&l9;</x:xmpmeta>'.encode()


def _with_thumbnail(image: Image.Image) -> bytes:
    small = encoded(image.resize((32, 24)), "JPEG")
    first = ImageFileDirectory_v2()
    first[0x0112] = 1
    buffer = io.BytesIO(b"II*\0\x08\0\0\0")
    buffer.seek(8)
    buffer.write(struct.pack("<HHHII", 1, 0x0112, 3, 1, 1) + struct.pack("<I", 26))
    buffer.write(struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 56))
    buffer.write(struct.pack("<HHII", 0x0202, 4, 1, len(small)) + struct.pack("<I", 0) + small)
    return encoded(image, "JPEG", exif=b"Exif\0\0" + buffer.getvalue())


def _tiff(
    pixels: bytes,
    size: tuple[int, int],
    *,
    bits: tuple[int, ...],
    photometric: int = 1,
    sample_format: int = 1,
    tile: int = 0,
    after: int = 0,
) -> bytes:
    """Return a big-endian TIFF with its tags written by hand; Pillow writes neither tiles nor such sizes."""
    width, height = size
    tags: list[tuple[int, str, tuple[int, ...]]] = [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", bits),
        (259, "H", (1,)),
        (262, "H", (photometric,)),
        (277, "H", (len(bits),)),
        (339, "H", (sample_format,) * len(bits)),
    ]
    if tile:
        count = -(-width // tile) * -(-height // tile)
        each = tile * tile * len(bits) * bits[0] // 8
        tags += [(322, "I", (tile,)), (323, "I", (tile,))]
        tags += [(324, "I", tuple(8 + each * number for number in range(count))), (325, "I", (each,) * count)]
    else:
        tags += [(273, "I", (8,)), (278, "I", (height,)), (279, "I", (len(pixels),))]
    start = 8 + len(pixels)
    extra = start + 2 + 12 * len(tags) + 4
    table, far = b"", b""
    for tag, kind, values in sorted(tags):
        data = struct.pack(f">{len(values)}{kind}", *values)
        near = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(">I", extra + len(far))
        far += data if len(data) > 4 else b""
        table += struct.pack(">HHI", tag, 3 if kind == "H" else 4, len(values)) + near
    next_page = struct.pack(">I", start if after else 0)
    return b"MM\0*" + struct.pack(">I", start) + pixels + struct.pack(">H", len(tags)) + table + next_page + far


def _tiles() -> bytes:
    pixels = np.asarray(scene(64, 32, seed=81))
    tiles = [pixels[y : y + 16, x : x + 16].tobytes() for y in range(0, 32, 16) for x in range(0, 64, 16)]
    return _tiff(b"".join(tiles), (64, 32), bits=(8, 8, 8), photometric=2, tile=16)


def _ring() -> bytes:
    """Return a TIFF whose first page says that the next page is the first."""
    return _tiff(np.asarray(scene(48, 40, seed=82).convert("L")).tobytes(), (48, 40), bits=(8,), after=1)
