"""A library of adapters in one folder: library.db (SQLite) and objects/ (files by content)."""

from lora_diffusion.library.adding import NewSample
from lora_diffusion.library.changing import BACK, MOVES
from lora_diffusion.library.library import Library
from lora_diffusion.library.lineage import lineage_of_run
from lora_diffusion.library.naming import require_name
from lora_diffusion.library.run_samples import rights_of_run, samples_of_run
from lora_diffusion.library.values import (
    STAGES,
    Comment,
    Comparison,
    Details,
    Difference,
    Event,
    Facts,
    Fault,
    LibraryPicture,
    Lineage,
    Package,
    PictureState,
    Sample,
    Stage,
    Uses,
    Version,
    Withdrawal,
)

__all__ = [
    "BACK",
    "MOVES",
    "STAGES",
    "Comment",
    "Comparison",
    "Details",
    "Difference",
    "Event",
    "Facts",
    "Fault",
    "Library",
    "LibraryPicture",
    "Lineage",
    "NewSample",
    "Package",
    "PictureState",
    "Sample",
    "Stage",
    "Uses",
    "Version",
    "Withdrawal",
    "lineage_of_run",
    "require_name",
    "rights_of_run",
    "samples_of_run",
]
