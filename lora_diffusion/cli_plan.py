"""`lora-diffusion plan`: a plan to begin with, for a folder of pictures and a base model."""

from pathlib import Path
from typing import Annotated

import typer

from lora_diffusion.cli_files import Overwrite
from lora_diffusion.console import Json, answer

__all__ = ["plan"]


def plan(
    data: Annotated[str, typer.Option("--data", help="Folder of pictures, or demo:NAME.")],
    base: Annotated[str, typer.Option("--base", help="Base model: folder, .safetensors file, hub id or demo.")] = (
        "demo"
    ),
    quality: Annotated[str, typer.Option("--quality", help="quick, balanced or best.")] = "balanced",
    name: Annotated[str, typer.Option("--name", help="Name of the style.")] = "",
    trigger: Annotated[str, typer.Option("--trigger", help="Word that calls the style up in a prompt.")] = "",
    run: Annotated[str, typer.Option("--run", help="Run directory that the plan names.")] = "runs/style",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; left out: the plan is printed.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Suggest a plan: steps, rank, learning rate and resolution that suit the base model and the pictures."""
    from datasets_tools.storage import write_text
    from lora_diffusion.outputs import require_free
    from lora_diffusion.settings import to_toml
    from lora_diffusion.training.presets import suggest_plan

    if out:
        require_free(out, overwrite)
    made = suggest_plan(data=data, base=base, quality=quality, name=name, trigger=trigger, out=run)
    text = to_toml(made)
    if out:
        write_text(out, text)
    found = {"out": str(out) if out else None, "steps": made.run.steps, "plan": text}
    answer(found, as_json, f"plan: {out}, {made.run.steps} steps" if out else text.rstrip())
