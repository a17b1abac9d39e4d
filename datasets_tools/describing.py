"""The pictures of a folder with what is written about them, without looking at a single pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.caption import find_captions
from datasets_tools.listing import list_folder
from datasets_tools.manifest import Rights

__all__ = ["Described", "describe_pictures"]


@dataclass(frozen=True, kw_only=True)
class Described:
    """One picture: its name relative to the folder, its caption as it is stored (before any trigger), its rights.

    `source` is the file that the caption stands in, "" where there is none; `excluded` says that it is left out of
    training on request.
    """

    file: str
    caption: str
    source: str
    excluded: bool
    rights: Rights


def describe_pictures(folder: Path | str) -> Sequence[Described]:
    """Return everything that claims to be a picture, in name order; none where there is none.

    Raises NoImages where the folder itself is missing. Captions that cannot be read are empty here: `check_folder`
    says why.
    """
    listing = list_folder(Path(folder))
    found = find_captions(listing.folder, listing.pictures, listing.texts)
    rows = []
    for file in listing.pictures:
        caption = found.by_image.get(file)
        rows.append(
            Described(
                file=file,
                caption=caption.text if caption else "",
                source=caption.source if caption else "",
                excluded=file in found.excluded,
                rights=found.rights.get(file) or Rights(),
            )
        )
    return tuple(rows)
