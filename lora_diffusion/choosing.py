"""Which step of a run to use: each adapter that it kept is judged in the same way."""

import gc
from pathlib import Path
from typing import Any

from lora_diffusion.errors import UsageError
from lora_diffusion.evaluation.choice import Candidate, Choice, best_of
from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evaluating import evaluate
from lora_diffusion.evaluation.evaluation import Evaluation
from lora_diffusion.evaluation.subject import OnProgress, silent
from lora_diffusion.files.safe import open_safe
from lora_diffusion.training.candidates import kept_adapters
from lora_diffusion.training.run import Run

__all__ = ["AT_FULL_WEIGHT", "evaluate_run"]


AT_FULL_WEIGHT = Design(weights=(1.0,))
"""What is drawn for a run, where nothing else is asked for: steps are compared at the weight they were trained at."""


def evaluate_run(
    run: Path | str,
    *,
    base: str = "",
    data: str = "",
    held_out: str = "",
    clip: Path | str | None = None,
    design: Design = AT_FULL_WEIGHT,
    precision: str = "auto",
    device: str = "auto",
    tokenizer: str = "",
    on_progress: OnProgress = silent,
) -> Choice:
    """Judge each adapter that lies in a run directory and say which step to use.

    What is not given is what the plan of the run says. The other arguments are those of `evaluate`. Raises RunExists
    where there is no run, UsageError for one without adapters, and what `evaluate` raises.
    """
    opened = Run.open(Path(run))
    plan, losses, files = opened.plan, opened.validation_losses(), _files(opened)
    judged, about = list[Candidate](), dict[str, Any]()
    for number, (step, path) in enumerate(files.items(), 1):
        found = evaluate(
            path,
            base=base or plan.base.path,
            data=data or plan.data.folder,
            held_out=held_out or plan.validation.folder,
            clip=clip,
            design=design,
            precision=precision,
            device=device,
            tokenizer=tokenizer or plan.base.tokenizer,
            on_progress=_told(on_progress, f"step {step} ({number} of {len(files)})"),
        )
        file = path.relative_to(opened.folder).as_posix()
        judged.append(_candidate(found, step=step, file=file, validation_loss=losses.get(step)))
        about = _about(found)
        del found  # it holds the base model, and the next one loads another
        gc.collect()
    best, reason = best_of(judged)
    return Choice(run=opened.folder, design=design, candidates=tuple(judged), best=best, reason=reason, **about)


def _about(found: Evaluation) -> dict[str, Any]:
    """Return what is the same for each adapter of a run."""
    evidence = found.evidence
    return {
        "prompts": tuple(each.content for each in evidence.prompts),
        "trigger": found.adapter.trigger,
        "notes": found.notes,
        "base": evidence.base,
        "training": evidence.training or (),
    }


def _files(run: Run) -> dict[int, Path]:
    """Return the adapters of a run by step, in order."""
    found = kept_adapters(run.folder)
    if run.adapter.is_file():
        step = open_safe(run.adapter).metadata.get("ss_steps", "")
        found[int(step) if step.isdecimal() else run.plan.run.steps] = run.adapter
    if not found:
        raise UsageError(
            f"{run.folder} holds no adapter yet",
            hint="let it train on: adapters are kept on the way as `run.candidates` says, and at the end",
        )
    return dict(sorted(found.items()))


def _told(on_progress: OnProgress, which: str) -> OnProgress:
    return lambda what, done, total: on_progress(f"{which}, {what}", done, total)


def _candidate(evaluation: Evaluation, *, step: int, file: str, validation_loss: float | None) -> Candidate:
    """Keep what is shown of an evaluation, without the model that stands behind it."""
    evidence = evaluation.evidence
    weight = evaluation.best_weight or evidence.strongest
    return Candidate(
        step=step,
        file=file,
        validation_loss=validation_loss,
        scores=evaluation.scores,
        best=evaluation.best,
        pictures=evidence.sweep[weight],
    )
