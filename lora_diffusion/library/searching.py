"""Versions by what is said of them."""

from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.library.naming import key_of
from lora_diffusion.library.rows import VERSIONS, version_of
from lora_diffusion.library.store import Store
from lora_diffusion.library.values import STAGES, Version

__all__ = ["versions"]

_SAID = (
    'folded(a.name || char(10) || v."trigger" || char(10) || v.tags || char(10) || v.notes || char(10) || v.licence)'
)


def versions(store: Store, *, text: str, stage: str, family: str, tag: str, name: str, every: bool) -> list[Version]:
    """Return the versions that meet all conditions; as `Library.versions` says."""
    if stage and stage not in STAGES:
        raise UsageError(f"there is no stage {stage!r}", hint=f"stages are {', '.join(STAGES)}")
    conditions: list[tuple[str, Any]] = [(f"instr({_SAID}, ?)", word.casefold()) for word in text.split()]
    conditions += [("v.stage = ?", stage)] if stage else []
    conditions += [("v.family = ?", family)] if family else []
    conditions += [("a.key = ?", key_of(name))] if name else []
    has_tag = "EXISTS (SELECT 1 FROM json_each(v.tags) WHERE folded(value) = ?)"
    conditions += [(has_tag, tag.casefold())] if tag else []
    where = " AND ".join(["1" if every else "a.current = v.number", *(condition for condition, _ in conditions)])
    with store.reading() as connection:
        rows = connection.execute(
            f"{VERSIONS} WHERE {where} ORDER BY a.key, v.number DESC", tuple(value for _, value in conditions)
        ).fetchall()
    return [version_of(row) for row in rows]
