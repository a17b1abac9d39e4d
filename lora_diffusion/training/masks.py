"""The masks of a plan's pictures: where each is, and what it says of a crop. Needs neither torch nor a base model."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_tools.bucket import Crop
from datasets_tools.manifest import Record
from datasets_tools.mask import load_alpha, load_mask, mask_files, mask_name
from datasets_tools.storage import sha256_file
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import PlanError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ALPHA", "MaskFile", "mask_pixels", "masks_in", "require_unchanged"]

ALPHA = "alpha"
"""The value of data.masks that takes the transparency of the pictures themselves."""


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """Where the mask of a picture is: in a grey picture, or in the alpha channel of the picture itself."""

    path: Path
    sha256: str
    alpha: bool


def masks_in(folder: str, files: Iterable[str]) -> dict[str, MaskFile]:
    """Return the masks that a folder holds for pictures, by the file of the picture; some may have none.

    Raises PlanError where no picture has one: another folder was meant. Raises InvalidSetting for a missing folder.
    """
    there = mask_files(picture_folder(folder))
    paths = {file: there[mask_name(file)] for file in files if mask_name(file) in there}
    if not paths:
        raise PlanError(
            f"none of the {len(there)} masks in {folder} belongs to a picture",
            hint="name each mask like its picture, in folders of the same names, or leave data.masks empty",
        )
    return {file: MaskFile(path=path, sha256=sha256_file(path), alpha=False) for file, path in paths.items()}


def mask_pixels(mask: MaskFile, record: Record, crop: Crop) -> "Image | None":
    """Return a mask through the crop of its picture, in mode L; None where all of the picture counts.

    Raises PlanError for a mask that is black wherever the crop shows it, of another shape than its picture, or changed
    since it was found; UnreadableImage for a broken one.
    """
    from datasets_tools.image import render

    image = load_alpha(mask.path) if mask.alpha else load_mask(mask.path)
    # after decoding: what was decoded before a change, and what was changed before decoding, both come to light
    require_unchanged(mask.path, sha256_file(mask.path), mask.sha256)
    if image is None:
        return None
    # sides of a mask drawn at another resolution are off by at most one pixel of rounding
    if abs(image.width * record.height - image.height * record.width) > max(record.width, record.height):
        raise PlanError(
            f"the mask {mask.path} is {image.width} x {image.height}, another shape than {record.file} with "
            f"{record.width} x {record.height}",
            hint="save the mask at the size of its picture",
        )
    seen = render(image, crop)
    if seen.getbbox() is None:
        raise PlanError(
            f"the mask of {record.file} is black: nothing of the picture would count",
            hint=f"paint what counts white in {mask.path}, or remove the mask",
        )
    return seen


def require_unchanged(path: Path, sha256: str, scanned: str) -> None:
    """Raise PlanError where a file has other bytes than when it was scanned: what is kept of it would be another's."""
    if sha256 != scanned:
        raise PlanError(f"{path} changed since it was scanned", hint="let it be while training begins, and start again")
