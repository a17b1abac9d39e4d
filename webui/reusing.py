"""Settings out of a picture or a text, as this studio can draw them again, and what they lose by that."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from lora_diffusion import LoraDiffusionError, UsageError, parse_part, split_prompt
from webui.actions import At
from webui.actions.bases import path_of, purpose_of

__all__ = ["MAX_WEIGHT", "again"]

MAX_WEIGHT = 2.0
_LIMITS = {"seed": ("Seed", 2**53), "steps": ("Steps", 100), "guidance": ("CFG scale", 30)}
"""Setting -> its name in pictures, and the most that may be drawn here; browsers know no whole numbers beyond 2^53."""
_REUSED = ("negative", "seed", "width", "height", "steps", "guidance", "sampler", "strength")


def again(at: At, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as `draw` takes them, with the styles that this library has.

    What cannot be taken over is named: styles that are `missing` or retired, those whose weight was `cut` to what may
    be drawn here, a `base` that is another one, and a picture that it `began` with, which is not inside it.
    `notes` tell the rest.
    """
    prompt, tags = split_prompt(str(said.get("prompt", "")))
    weights = {tag.name: tag.unet for tag in tags} | dict(said.get("adapters") or {})
    styles: list[dict[str, Any]] = []
    missing, cut = [], []
    for name, weight in weights.items():
        ref = _found(at, name)
        if not ref:
            missing.append(name)
            continue
        allowed = max(-MAX_WEIGHT, min(MAX_WEIGHT, float(weight)))
        cut += [name] if allowed != weight else []
        blocks = _blocks((said.get("parts") or {}).get(name, ""))
        styles.append({"ref": ref, "weight": allowed, "blocks": blocks, "schedule": _schedule(said, name)})
    known = {key: said[key] for key in _REUSED if said.get(key) is not None}
    notes = list(said.get("notes") or ())
    for key, (title, most) in _LIMITS.items():
        if known.get(key, 0) > most:
            notes.append(f"{title}: {known.pop(key)} is left out")
    if known.get("width") and known.get("height"):
        known["purpose"] = purpose_of(at, known["width"], known["height"])
    base = str(said.get("base") or "")
    if base and base != PurePosixPath(path_of(at, "")).stem:
        known["base"] = base
    began = bool(said.get("began") or said.get("start"))
    return {"prompt": prompt, **known, "styles": styles, "missing": missing, "cut": cut, "began": began, "notes": notes}


def _found(at: At, name: str) -> str:
    try:
        version = at.studio.library.version(name)
    except LoraDiffusionError:
        return ""
    return "" if version.stage == "retired" else version.ref


def _blocks(part: str) -> str:
    """Return what follows @ of an adapter as a picture names it, "" where it says nothing that can be read."""
    try:
        spec = parse_part(part) if part else None
    except UsageError:
        return ""
    return "@".join(_options(spec.presets, spec.overrides)) if spec else ""


def _options(presets: Sequence[str], overrides: Mapping[str, float]) -> list[str]:
    return [*presets, *(f"{block}={weight:g}" for block, weight in overrides.items())]


def _schedule(said: Mapping[str, Any], name: str) -> str:
    """Return when a style works, with numbers as people write them: 0-0.5, not 0.0-0.5."""
    text = str((said.get("schedules") or {}).get(name, ""))
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):g}", text)
