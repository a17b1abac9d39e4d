"""Decoded pixels of any mode, depth and profile as sRGB in 8 bits; what is lost or guessed on the way is noted."""

import base64
import io
import zlib

import numpy as np
from PIL import Image, ImageCms

from datasets_tools.errors import UnreadableImage

__all__ = ["ADOBE_RGB", "Colour", "eight_bit", "on_background", "split_alpha", "to_srgb"]

Colour = tuple[int, int, int]

# Profiles that are sRGB itself: converting from them would only add rounding noise.
_SRGB_NAMES = {"sRGB IEC61966-2.1", "sRGB", "sRGB built-in", "sRGB2014", "c2"}
# A profile of 508 bytes with the primaries of Adobe RGB (1998), adapted to D50, and its gamma of 563/256.
ADOBE_RGB = zlib.decompress(
    base64.b64decode(
        "eNpjYGD8wwAETA4MDLl5JUVB7k4KEZFRCgxIIDG5uIABL/h2jYERRF/WZSAdcKakFicD6Q9AXJ1cUFTCwMCYA2QLlJcUgNg1QLZI"
        "EdBRQPYEEDsdwl4CYidB2DvAakKCnIHsMyC96RD2HRA7CcJ+A2JD7QIBUceU/KRUBZCPk/NzCxJLMpNyUhloCEpSK0pAdF5+Htge"
        "RDgjwg8hNkeCgcF/KQMDyx+EmEkvA8MCHQYG/qkIMTVDoLf0GRj2zUkuLSqDWsXIZMzAQIgPAI1NPus="
    )
)


def eight_bit(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Scale 16-bit greys to 8 bits. Wider values have no agreed white, so they are refused rather than guessed."""
    if image.mode in {"I", "F"}:
        raise UnreadableImage(
            f"{name} holds 32-bit values, which have no agreed white", hint="export it with 8 or 16 bits per channel"
        )
    if not image.mode.startswith("I;16"):
        return image
    notes.append("sixteen-bit")
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(((values != image.info["transparency"]) * 255).astype(np.uint8)))
    return grey


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours in mode L, RGB, CMYK or LAB, and the alpha channel where there is one."""
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in {"1", "L", "La", "LA"} else "RGBA")
        return image.convert(image.mode[:-1]), image.getchannel("A")
    if image.mode in {"L", "RGB", "CMYK", "LAB"}:
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def to_srgb(colours: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Return a new image in mode RGB, by the profile where there is a whole one that fits."""
    if colours.mode == "LAB":
        return _converted(colours, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile:
        try:
            return _from_profile(colours, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("icc-broken")
    elif colours.mode == "CMYK":
        notes.append("cmyk-without-profile")
    return colours.convert("RGB")


def _from_profile(colours: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    space = source.profile.xcolor_space
    if space == "RGB " and colours.mode == "L":  # greys saved with the profile of the document
        colours = colours.convert("RGB")
    if space != {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}[colours.mode]:
        raise ValueError(f"a {space} profile in a {colours.mode} image")
    if ImageCms.getProfileDescription(source).strip() in _SRGB_NAMES:
        return colours.convert("RGB")
    return _converted(colours, source)


def _converted(colours: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # relative colorimetric with black point compensation is what Adobe programs show
    converted = ImageCms.profileToProfile(
        colours,
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only in-place conversion returns nothing
    return converted


def on_background(colours: Image.Image, alpha: Image.Image | None, background: Colour, notes: list[str]) -> Image.Image:
    """Return the RGB colours before the background where they are transparent; `colours` may be changed."""
    if alpha is None or alpha.getextrema() == (255, 255):
        clean = colours  # a copy already, made by the conversion
    else:
        notes.append("transparent")
        clean = Image.new("RGB", colours.size, background)
        clean.paste(colours, mask=alpha)
    clean.info = {}  # no profile and no orientation may be applied a second time
    return clean
