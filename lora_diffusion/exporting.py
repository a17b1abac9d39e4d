"""Publish adapters: convert, hide what is private, write, read back, compare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_tools.storage import sha256_file
from lora_diffusion.card import Card, check_card, write_card
from lora_diffusion.errors import UsageError
from lora_diffusion.files.adapter import SUFFIX, Adapter, read_adapter, write_adapter, written_paths
from lora_diffusion.files.folder import WEIGHTS
from lora_diffusion.files.metadata import redact, require_public
from lora_diffusion.files.report import Report
from lora_diffusion.generation.blend import Blended, Part, blend, blend_error
from lora_diffusion.outputs import require_free

__all__ = ["Exported", "blend_to_file", "export"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written adapter; `report` is the error of each delta, `repairs` what reading the source mended, `dropped` the
    metadata keys that the privacy profile took out, `blended` how a blend came about."""

    path: Path
    sha256: str
    report: Report
    repairs: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    cards: tuple[Path, ...] = ()
    blended: Blended | None = None


def export(
    source: Path | str | Adapter,
    path: Path | str,
    *,
    dialect: str = "kohya",
    dtype: str | None = "fp16",
    privacy: str = "team",
    cards: Sequence[Card] = (),
    overwrite: bool = False,
) -> Exported:
    """Write an adapter for other programs and people.

    The defaults are what every program reads at half the size: kohya keys in fp16, whose rounding (3e-4 of a delta) is
    far below what training leaves. `privacy` is "public", "team" or "private" (see `files.privacy.redact`). `cards` are
    pages about the adapter, in Markdown or HTML, that are written after it. Raises UsageError where `path` exists and
    `overwrite` is not set, or where the name of a public adapter gives someone away, and as `read_adapter` and
    `write_adapter` do.
    """
    path = Path(path)
    require_free(path, overwrite)
    for card in cards:
        check_card(card, overwrite)
    adapter = source if isinstance(source, Adapter) else read_adapter(source)
    for beside in written_paths(adapter, path):
        require_free(beside, overwrite)
    shared = redact(adapter.metadata, privacy)
    if privacy == "public":  # the name becomes the file's title
        require_public({"modelspec.title": adapter.name})
    report = write_adapter(replace(adapter, metadata=shared), path, dialect=dialect, dtype=dtype)
    sha256, precision = _sha256(path), dtype or "as found"
    for card in cards:
        write_card(
            card, read_adapter(path), file=path, sha256=sha256, dialect=dialect, precision=precision, privacy=privacy
        )
    return Exported(
        path=path,
        sha256=sha256,
        report=report,
        cards=tuple(card.path for card in cards),
        repairs=adapter.repairs,
        dropped=tuple(sorted(set(adapter.metadata) - set(shared))),
    )


def blend_to_file(
    parts: Sequence[Part],
    path: Path | str,
    *,
    method: str | None = None,
    rank: int | None = None,
    keep: float | None = None,
    density: float | None = None,
    seed: int | None = None,
    orthogonal_to: Adapter | None = None,
    base: Path | str | None = None,
    dialect: str = "kohya",
    dtype: str | None = "fp32",
    overwrite: bool = False,
) -> Exported:
    """Write one adapter for the weighted sum of several; the report compares what the file holds with that sum.

    The options are those of `blend`. fp32 by default: an exact blend should not lose to rounding what the method did
    not. Raises UsageError where `path` exists and `overwrite` is not set, and as `blend` and `write_adapter` do.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} has no suffix {SUFFIX}", hint=f"name the file {path.name}{SUFFIX}")
    require_free(path, overwrite)
    done = blend(
        parts,
        name=path.stem,
        method=method or None,
        rank=rank,
        keep=keep,
        density=density,
        seed=seed,
        orthogonal_to=orthogonal_to,
        base=base,
    )
    for beside in written_paths(done.adapter, path):
        require_free(beside, overwrite)
    write_adapter(done.adapter, path, dialect=dialect, dtype=dtype)
    report = blend_error(read_adapter(path), parts, base)
    return Exported(path=path, sha256=_sha256(path), report=report, repairs=done.adapter.repairs, blended=done)


def _sha256(path: Path) -> str:
    """A folder is one component with its settings beside, or several: the tensors of the first stand for it."""
    return sha256_file(path if path.is_file() else sorted(path.rglob(WEIGHTS))[0])
