"""What the checks say of a plan and what it needs: asked of the command line, and kept while nothing changed."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_tools import replacing, write_json
from lora_diffusion import TrainPlan, picture_folder, to_toml
from webui.checks import state_of
from webui.commands import run_cli
from webui.plans import HELD_OUT

__all__ = ["Estimate", "checked", "known", "measured"]

CHECK_SECONDS, PROBE_SECONDS = 300.0, 1500.0
"""Looking at 4000 pictures; loading a base model from a slow disk and training four steps of it on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a training takes on this machine; `known` is False where the check blocked before anything was measured."""

    known: bool
    seconds: float = 0.0
    seconds_per_step: float = 0.0
    peak_bytes: int = 0


def checked(home: Path, plan: TrainPlan) -> dict[str, Any]:
    """Return the report of `lora-diffusion check` on a plan, without a probe."""
    return _asked(home, plan, ["--no-probe"], CHECK_SECONDS)


def measured(home: Path, plan: TrainPlan) -> Estimate:
    """Return what a plan needs, by a probe of one that differs in nothing that a step costs.

    A step is taken to cost what one at the largest size does, which is never too little.
    """
    return _estimate(plan, _asked(home, _stripped(plan), ["--probe"], PROBE_SECONDS))


def known(home: Path, plan: TrainPlan) -> Estimate:
    """Return what a plan needs as far as it was measured before."""
    kept, _ = _question(home, _stripped(plan), ["--probe"])
    return _estimate(plan, json.loads(kept.read_text("utf-8")) if kept.exists() else {})


def _estimate(plan: TrainPlan, answer: Mapping[str, Any]) -> Estimate:
    found = answer.get("estimate")
    if not found:
        return Estimate(known=False)
    pace = float(found["seconds_per_step"])
    return Estimate(
        known=True,
        seconds=float(found["seconds"]) + pace * (plan.run.steps - 1),
        seconds_per_step=pace,
        peak_bytes=int(found["peak_bytes"]),
    )


def _stripped(plan: TrainPlan) -> TrainPlan:
    """Return a plan of one step with nothing that its cost does not depend on."""
    return plan.model_copy(
        update={
            "adapter": plan.adapter.model_copy(update={"name": ""}),
            "data": plan.data.model_copy(update={"trigger": "style", "rights": "optional", "captions": "optional"}),
            "optim": type(plan.optim)(),
            "schedule": type(plan.schedule)(),
            "previews": type(plan.previews)(),
            "validation": type(plan.validation)(),
            "run": plan.run.model_copy(update={"steps": 1, "seed": 0, "snapshot_every": 0}),
        }
    )


def _question(home: Path, plan: TrainPlan, words: Sequence[str]) -> tuple[Path, str]:
    """Return where the answer is kept while plan and pictures stay as they are, and the plan as TOML."""
    update: dict[str, Any] = {"run": plan.run.model_copy(update={"out": str(home / "runs" / "new")})}
    if plan.validation.folder == HELD_OUT:  # what is put aside is nowhere yet, and is no other picture
        update["validation"] = type(plan.validation)()
    text = to_toml(plan.model_copy(update=update))
    asked = "\n".join([text, state_of(picture_folder(plan.data.folder)), *words])
    return home / "tmp" / f"check-{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json", text


def _asked(home: Path, plan: TrainPlan, words: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return what `check` says of a plan, or has said."""
    from filelock import FileLock

    kept, text = _question(home, plan, words)
    with FileLock(home / "tmp" / "check.lock"):  # two probes at once would measure each other
        if not kept.exists():
            asked = home / "tmp" / f"check-{secrets.token_hex(8)}.toml"
            try:
                with replacing(asked) as aside:
                    aside.write_text(text, encoding="utf-8")
                found = run_cli(["check", str(asked), *words], timeout=seconds)
            finally:
                asked.unlink(missing_ok=True)
            write_json(kept, {key: found[key] for key in ("findings", "blocked", "estimate")})
    answer: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    return answer
