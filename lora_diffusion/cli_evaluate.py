"""The verb that judges an adapter by what it draws."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lora_diffusion.cli_files import Overwrite
from lora_diffusion.cli_home import locate_adapter, read_named
from lora_diffusion.console import Json, answer
from lora_diffusion.errors import UsageError

__all__ = ["evaluate"]


def evaluate(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="Adapter file, folder or name in the library, or a run.")
    ],
    against: Annotated[str, typer.Option("--against", help="Another adapter to compare and to blend with.")] = "",
    base: Annotated[str, typer.Option("--base", help="Base model; left out: what the adapter was trained on.")] = "",
    data: Annotated[
        str, typer.Option("--data", help="Folder of the pictures that it was trained on, or demo:NAME.")
    ] = "",
    held_out: Annotated[
        str, typer.Option("--held-out", help="Folder of pictures of the same style that it was not trained on.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder for evaluation.json and evaluation.html.")] = Path(
        "evaluation"
    ),
    weights: Annotated[
        str, typer.Option("--weights", help="Weights to try, ascending; left out: 0.4,0.6,0.8,1.0,1.2, of a run 1.0.")
    ] = "",
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts to draw.", min=1, max=64)] = 12,
    seeds: Annotated[int, typer.Option("--seeds", help="Pictures of each prompt.", min=1, max=16)] = 1,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each picture.", min=1, max=1000)] = 20,
    seed: Annotated[int, typer.Option("--seed", help="What all noise is drawn with.", min=0)] = 0,
    clip: Annotated[Path | None, typer.Option("--clip", help="Folder of a CLIP model, for one more figure.")] = None,
    tokenizer: Annotated[str, typer.Option("--tokenizer", help="Tokenizer folder for a single-file base.")] = "",
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or no.")] = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say how close an adapter comes to its style, what it costs, and which weight to use; figures and a page.

    Of a run (a folder that `train` made) each adapter that it kept is judged, to say which step to use.
    """
    from lora_diffusion.choosing import AT_FULL_WEIGHT, evaluate_run
    from lora_diffusion.evaluation.design import Design
    from lora_diffusion.evaluation.evaluating import evaluate as judge
    from lora_diffusion.evaluation.writing import require_room, write_evaluation
    from lora_diffusion.progress import Progress

    is_run = (Path(adapter) / "plan.toml").is_file()
    if is_run and against:
        raise UsageError(f"{adapter} is a run, whose own adapters are compared", hint="leave --against out")
    usual = AT_FULL_WEIGHT if is_run else Design()
    tried = _weights(weights) if weights else usual.weights
    design = Design(weights=tried, prompts=prompts, seeds=seeds, steps=steps, seed=seed)
    inputs = [] if is_run else [locate_adapter(each)[0] for each in (adapter, against) if each]
    require_room(out, overwrite=overwrite, inputs=inputs)
    with Progress("evaluate") as progress:
        how: dict[str, Any] = {
            "base": base, "data": data, "held_out": held_out, "clip": clip, "tokenizer": tokenizer,
            "design": design, "precision": precision,
            "on_progress": lambda what, done, total: progress.show(f"evaluate: {what}", done, total),
        }  # fmt: skip
        other = read_named(against) if against else None
        found = evaluate_run(adapter, **how) if is_run else judge(read_named(adapter), against=other, **how)
    figures, page = write_evaluation(found, out)
    written = {**found.to_dict(), "path": str(figures), "page": str(page)}
    answer(written, as_json, f"{found.summary()}\nlook at {page}")


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f"--weights {text!r} is no list of numbers", hint="write 0.4,0.8,1.2") from None
