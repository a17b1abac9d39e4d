"""Plans as the studio's people write them: places are named as the studio calls them, and numbers are bounded.

base.path is a base model by name, data.folder and the other folders of pictures are sets by their id; where a run lies
is decided when it starts. So no plan reaches a file of this machine that the studio does not offer.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_diffusion import TrainPlan, UsageError, from_text
from webui.errors import BadRequest

if TYPE_CHECKING:
    from webui.datasets import Datasets

__all__ = ["HELD_OUT", "LIMITS", "OWN", "placed", "read_plan", "resolved"]

HELD_OUT = "held-out"
"""As validation.folder: a share of the pictures themselves, put aside when the training starts."""

LIMITS: dict[str, float] = {
    "adapter.rank": 320,  # the smaller side of the narrowest layer of Stable Diffusion
    "adapter.ranks": 320,
    "data.resolution": 2048,
    "data.more_resolutions": 2048,
    "data.min_side": 2048,
    "data.max_side": 4096,
    "data.bucket_step": 1024,
    "data.repeats": 1000,
    "data.keep_tags": 1000,
    "optim.lr": 1,
    "optim.text_lr": 1,
    "previews.steps": 100,
    "previews.seed": 2**53,
    "run.steps": 20_000,  # a day at 4 s a step
    "run.batch_size": 64,
    "run.micro_batch": 64,
    "run.keep_snapshots": 20,
    "run.candidates": 20,
    "run.seed": 2**53,
    "validation.patience": 1000,
}
"""The largest value of a key, or of each value where there are several."""

OWN = {"adapter.name": "", "base.tokenizer": "", "data.cache": "", "data.rights": "require", "run.out": "runs/style"}
"""Keys that the studio decides -> what stands for it in a plan."""

MOST_VALUES, LONGEST_TEXT, MOST_LOOKS = 50, 1000, 200
"""Of a list or table; of a text; previews or validations of one run."""


def read_plan(text: str) -> TrainPlan:
    """Read a plan and hold it against the limits. Raises BadRequest naming the key and what is allowed."""
    try:
        plan = from_text(TrainPlan, text)
    except UsageError as error:
        raise BadRequest(str(error), hint=error.hint) from error
    for key, value in _values(plan):
        _require_own(key, value)
        _require_within(key, value)
    for section in ("previews", "validation"):
        every = getattr(plan, section).every
        if every and plan.run.steps / every > MOST_LOOKS:
            least = -(-plan.run.steps // MOST_LOOKS)
            raise BadRequest(f"{section}.every: {every} is too often", hint=f"take at least {least}, or 0")
    if plan.data.masks not in ("", "alpha"):
        raise BadRequest(f"data.masks: {plan.data.masks} is no mask", hint="write alpha, or leave it empty")
    return plan


def resolved(plan: TrainPlan, *, base: Callable[[str], str], sets: "Datasets") -> TrainPlan:
    """Return a plan with the places that its names mean; HELD_OUT stays, until the pictures are put aside.

    Raises NotFound for a base model or a set that there is not.
    """
    asked = plan.validation.folder
    validation = {"folder": asked if asked == HELD_OUT else _place(sets, asked)}
    data = {"folder": _place(sets, plan.data.folder), "regularisation": _place(sets, plan.data.regularisation)}
    return _with(plan, {"base": {"path": base(plan.base.path)}, "data": data, "validation": validation})


def placed(plan: TrainPlan, *, run: Path, pictures: Path, held_out: Path | None, name: str, rights: bool) -> TrainPlan:
    """Return a resolved plan as it is trained into `run`, from a copy of its pictures; trainings share one cache."""
    sections: dict[str, dict[str, Any]] = {
        "adapter": {"name": name},
        "data": {
            "folder": str(pictures),
            "cache": str(run.parent / ".cache"),
            "rights": "require" if rights else "optional",
        },
        "run": {"out": str(run)},
    }
    if held_out:
        sections["validation"] = {"folder": str(held_out)}
    return _with(plan, sections)


def _with(plan: TrainPlan, sections: dict[str, dict[str, Any]]) -> TrainPlan:
    updated = {name: getattr(plan, name).model_copy(update=values) for name, values in sections.items()}
    return plan.model_copy(update=updated)


def _place(sets: "Datasets", id: str) -> str:
    return sets.find(id).source if id else ""


def _values(plan: TrainPlan) -> Iterator[tuple[str, Any]]:
    for section in type(plan).model_fields:
        for name, value in getattr(plan, section):
            yield f"{section}.{name}", value


def _require_own(key: str, value: Any) -> None:
    if key in OWN and value != OWN[key] and not (key == "data.rights" and value == "optional"):
        raise BadRequest(f"{key}: the studio decides this", hint=f"leave it at {key} = '{OWN[key]}'")


def _require_within(key: str, value: Any) -> None:
    several = isinstance(value, dict | tuple)
    each = [*value, *value.values()] if isinstance(value, dict) else list(value) if several else [value]
    if several and len(each) > 2 * MOST_VALUES:
        raise BadRequest(f"{key}: more than {MOST_VALUES} values", hint="leave some out")
    for one in each:
        if isinstance(one, str) and len(one) > LONGEST_TEXT:
            raise BadRequest(f"{key}: the text is too long", hint=f"at most {LONGEST_TEXT} letters")
        if isinstance(one, float) and not math.isfinite(one):
            raise BadRequest(f"{key}: {one} is no number", hint="write it with digits, such as 1e-4")
        if isinstance(one, int | float) and one > LIMITS.get(key, math.inf):
            raise BadRequest(f"{key}: {one:g} is more than {LIMITS[key]:g}", hint=f"take at most {LIMITS[key]:g}")
