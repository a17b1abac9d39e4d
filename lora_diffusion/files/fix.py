"""Write a file again as it should have been: canonical names, an alpha for every module, fresh hashes."""

import os
from dataclasses import dataclass
from pathlib import Path

from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import Adapter, from_source, write_adapter, written_paths
from lora_diffusion.files.dialects import dialects
from lora_diffusion.files.folder import Source, source_of
from lora_diffusion.files.report import Report

__all__ = ["Fixed", "fix_adapter"]


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """A mended file. `mended` says in one line each what is different; empty where nothing was wrong. `report` is how
    far each delta is from that of the source: rounding at most."""

    path: Path
    dialect: str
    mended: tuple[str, ...]
    report: Report


def fix_adapter(source: Path | str, out: Path | str, *, overwrite: bool = False) -> Fixed:
    """Write an adapter again in its own dialect, in the precision of its tensors, with all that reading mended.

    What cannot be mended without a guess is refused, as reading refuses it: NaN, missing tensors, tensors without a
    place (CorruptFile). A file of several dialects becomes one of that which most of its tensors had. Raises UsageError
    where `out` exists and `overwrite` is not set, or is the source itself, or the dialect can only be read. Nothing is
    written on an error.
    """
    source, out = Path(source), Path(out)
    _require_free(out, overwrite=overwrite)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the file to mend", hint="keep the original: give the result another name")
    found = source_of(source)
    adapter = from_source(found)
    if not dialects()[adapter.dialect].writable:
        raise UsageError(
            f"the dialect {adapter.dialect} is only read, so nothing can be mended in it",
            hint="export the adapter to kohya, diffusers or peft",
        )
    for path in written_paths(adapter, out):
        _require_free(path, overwrite=overwrite)
    mended = (*adapter.repairs, *_stale(found), *_folded(adapter))
    report = write_adapter(adapter, out, dialect=adapter.dialect)
    return Fixed(path=out, dialect=adapter.dialect, mended=mended, report=report)


def _require_free(path: Path, *, overwrite: bool) -> None:
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists already", hint="choose another name, or give --overwrite")


def _stale(source: Source) -> list[str]:
    """Our own hash is checked on reading; those of other programs may be left over from before an edit."""
    wrong = dict.fromkeys(key for file in source.files.values() for key in file.wrong_hashes())
    return [f"{key} did not match the tensors: computed anew" for key in wrong]


def _folded(adapter: Adapter) -> list[str]:
    """Dialects other than PEFT are written with one alpha: diffusers applies only the most common one, silently."""
    different = len({weights.alpha for weights in adapter.modules.values() if weights.method == "lora"}) > 1
    line = "alphas that differ between modules: one alpha, the difference went into the up factors"
    return [line] if different and adapter.dialect != "peft" else []
