"""Words from the file name: `sunset_over-the-lake (2).jpg` says "sunset over the lake"."""

import re
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.caption import Captioner

__all__ = ["captioner"]

# What cameras, phones, messengers and download tools write; none of it describes a picture.
_MADE = re.compile(
    r"(img|dsc[nf]?|pxl|mvi|gopr|dji|vid|wp|p|image|photo|picture|untitled|download|scan)?[ _-]*\d[\d _.-]*"
    r"|(whatsapp|signal|telegram)\b.*"
    r"|(screenshot|screen shot|bildschirmfoto|screen recording)\b.*"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    re.I,
)
_CAMERA = re.compile(r"\b(img|dsc[nf]?|pxl|mvi|gopr|dji|image|photo|picture|untitled|download)\b", re.I)
_HASH = re.compile(r"(?=.*\d)[0-9a-f]{8,}", re.I)


@dataclass(frozen=True, kw_only=True)
class _FromFileName:
    name: str = "filename"

    def caption(self, file: Path) -> str:
        stem = re.sub(r"\s*\(\d+\)$|\s*-?\s*copy$", "", Path(file).stem, flags=re.I)
        if _MADE.fullmatch(stem):
            return ""
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.+]+", " ", stem)
        words = [word for word in _CAMERA.sub(" ", spaced).split() if not word.isdigit() and not _HASH.fullmatch(word)]
        return " ".join(words)


def captioner() -> Captioner:
    """Return the captioner that reads file names."""
    return _FromFileName()
