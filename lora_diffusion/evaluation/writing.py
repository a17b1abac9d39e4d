"""The files of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from datasets_tools.storage import require_writable, write_json
from lora_diffusion.evaluation.choice import Choice
from lora_diffusion.evaluation.evaluation import Evaluation
from lora_diffusion.evaluation.page import write_page
from lora_diffusion.evaluation.run_page import write_run_page
from lora_diffusion.outputs import require_free

__all__ = ["require_room", "write_evaluation"]

_FIGURES, _PAGE = "evaluation.json", "evaluation.html"


def require_room(folder: Path, *, overwrite: bool, inputs: Sequence[Path | str] = ()) -> None:
    """Raise UsageError where a folder holds an evaluation that may not be replaced, DatasetError where none can be."""
    for name in (_FIGURES, _PAGE):
        require_free(folder / name, overwrite, inputs=inputs)
        require_writable(folder / name)


def write_evaluation(found: Evaluation | Choice, folder: Path) -> tuple[Path, Path]:
    """Write figures and page into a folder, each whole or not at all, and return their paths."""
    write_json(folder / _FIGURES, found.to_dict())
    if isinstance(found, Choice):
        write_run_page(found, folder / _PAGE)
    else:
        write_page(found, folder / _PAGE)
    return folder / _FIGURES, folder / _PAGE
