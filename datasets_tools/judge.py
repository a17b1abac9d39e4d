"""What the measurements of a picture mean for training: thresholds, reasons and remedies."""

from collections.abc import Iterator

from datasets_tools.finding import Finding, notes, warns
from datasets_tools.look import Seen
from datasets_tools.quality import BLOCKY, BLURRED, LETTERED

__all__ = ["judge_pixels"]

_LOW_JPEG = 50  # below it rings and blocks are seen around every edge at normal size
_SIDES = ("left", "top", "right", "bottom")


def judge_pixels(seen: Seen, *, flip: bool = False) -> Iterator[Finding]:
    """Say what in the pixels of a picture would be learned as part of the look. `flip` is the plan's setting."""
    quality = seen.quality
    if quality.blur is not None and quality.blur >= BLURRED:
        reason = "no part of it is sharp, and the blur would be learned as part of the look"
        yield warns("image-blurred", seen.file, reason, "use a sharper version, or remove it")
    compressed = _compression(seen)
    if compressed:
        remedy = "export it again from the original, as PNG or at a higher quality"
        yield warns("image-compressed", seen.file, compressed, remedy)
    if any(quality.border):
        sides = [f"{share:.0%} at the {side}" for side, share in zip(_SIDES, quality.border, strict=True) if share]
        reason = f"it has a plain frame or bar ({', '.join(sides)}), which would be learned as part of the look"
        yield warns("image-border", seen.file, reason, "crop it off, unless the frame belongs to the look")
    if quality.lettering >= LETTERED:
        yield _lettering(seen.file, flip)


def _compression(seen: Seen) -> str:
    if seen.jpeg_quality is not None and seen.jpeg_quality < _LOW_JPEG:
        return f"it is a JPEG of about quality {seen.jpeg_quality} of 100, with visible blocks and rings"
    if seen.quality.blockiness is not None and seen.quality.blockiness >= BLOCKY:
        return "it shows the 8-pixel blocks of a strongly compressed JPEG"
    return ""


def _lettering(file: str, flip: bool) -> Finding:
    reason = "it seems to hold lettering or a logo"
    if flip:
        remedy = "set data.flip=false: mirrored letters would be learned"
        return warns("flip-lettering", file, f"{reason}, and data.flip mirrors it", remedy)
    return notes(
        "image-lettering", file, reason, "name the words in its caption, so that they are not taken for the look"
    )
