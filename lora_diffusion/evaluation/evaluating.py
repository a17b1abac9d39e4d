"""The verb: judge an adapter by what it draws."""

from pathlib import Path

from lora_diffusion.errors import UsageError
from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evaluation import Evaluation
from lora_diffusion.evaluation.evidence import Evidence
from lora_diffusion.evaluation.gathering import gather
from lora_diffusion.evaluation.metrics import metrics
from lora_diffusion.evaluation.score import Score
from lora_diffusion.evaluation.studio import Studio
from lora_diffusion.evaluation.subject import OnProgress, silent, subject_of
from lora_diffusion.evaluation.weighing import best_weight
from lora_diffusion.files.adapter import Adapter, read_adapter

__all__ = ["evaluate"]


def evaluate(
    adapter: Adapter | Path | str,
    *,
    against: Adapter | Path | str | None = None,
    base: str = "",
    data: str = "",
    held_out: str = "",
    clip: Path | str | None = None,
    design: Design | None = None,
    precision: str = "auto",
    device: str = "auto",
    tokenizer: str = "",
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Draw with an adapter at several weights and measure what it does; no pretrained judge is needed.

    `base` is a base model as `generate` takes it, by default what the adapter says it was trained on. `data` is the
    folder of training pictures (or `demo:NAME`), `held_out` one of pictures of the same style that were not trained on;
    what needs them and has them not is reported as not measured. `against` is another adapter to compare and to blend
    with, `clip` the folder of a CLIP model for one more figure. `on_progress` is told (what, done, total).
    Raises UsageError for what cannot be evaluated so, WrongFamily for adapters that do not fit the base model.
    """
    design = design or Design()
    if clip is not None and not Path(clip).is_dir():
        raise UsageError(
            f"there is no folder {clip} with a CLIP model", hint="leave --clip out: it is one more opinion"
        )
    subject = subject_of(
        _read(adapter),
        None if against is None else _read(against),
        base=base,
        data=data,
        held_out=held_out,
        prompts=design.prompts,
        on_progress=on_progress,
    )
    with Studio(subject, seed=design.seed, precision=precision, device=device, tokenizer=tokenizer) as studio:
        evidence = gather(subject, design, studio, clip=Path(clip) if clip else None, on_progress=on_progress)
        scores = _measured(evidence, on_progress)
    return Evaluation(
        base=subject.base_name,
        design=design,
        scores=scores,
        best=best_weight(scores, design.weights),
        notes=subject.notes,
        evidence=evidence,
    )


def _measured(evidence: Evidence, on_progress: OnProgress) -> dict[str, Score]:
    scores = {}
    for number, metric in enumerate(metrics(), 1):
        scores[metric.name] = metric.measure(evidence)
        on_progress(f"measured {metric.title.lower()}", number, len(metrics()))
    return scores


def _read(adapter: Adapter | Path | str) -> Adapter:
    return adapter if isinstance(adapter, Adapter) else read_adapter(adapter)
